"""A Hydra launcher that hands another launcher only the jobs that are not done, and prepares its processes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from baldro_ext.open_unlearning.sweep import Job, SweepError, log_file


class UnfinishedLauncher(Launcher):
    """Launches what is not done yet.

    Args:
        inner: Configuration of the launcher that runs the jobs: Hydra's basic one, or a submitit one.
    """

    def __init__(self, inner: DictConfig) -> None:
        self.inner = inner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take over what Hydra tells a launcher, and tell it the inner one."""
        self.hydra_context = hydra_context
        self.config = copy.deepcopy(config)
        with read_write(self.config), open_dict(self.config):
            self.config.hydra.launcher = self.inner
        self.launcher = Plugins.instance().instantiate_launcher(
            config=self.config, hydra_context=hydra_context, task_function=Task(task_function)
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that are not done; return all results, in order.

        Raises:
            SweepError: A job would train where a job of other settings is done; nothing is run then.
        """
        known = [self._known(overrides) for overrides in job_overrides]
        left = [overrides for overrides, done in zip(job_overrides, known, strict=True) if done is None]
        if len(left) < len(known):
            print(f"{len(known) - len(left)} of {len(known)} jobs are done and not run again.", file=sys.stderr)
        ran = self.launcher.launch(left, initial_job_idx) if left else ()
        _report(ran)
        new = iter(ran)
        return [done or next(new) for done in known]

    def _known(self, overrides: Sequence[str]) -> JobReturn | None:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        folder, other = (_folder(config, number) for number in (0, 1))
        if folder != other:
            raise SweepError(
                "where a job saves its model depends on its number, by which it cannot be told from others in the next "
                "sweep: use a task_name of its settings, as run_${trainer.args.seed}"
            )
        job = Job.read(folder)
        if job is None or job.status != "done":
            return None
        if sorted(job.overrides) != sorted(config.hydra.overrides.task):
            raise SweepError(
                f"{folder} holds the result of other settings, {' '.join(job.overrides)}: move it away, or give this "
                "sweep a task_name of its own"
            )
        done = JobReturn()
        done.overrides, done.status, done.return_value = list(overrides), JobStatus.COMPLETED, job.value
        return done


def _folder(config: DictConfig, number: int) -> Path:
    """Return where a job saves its model if it is the job of this number."""
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.job.num = number
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(config)  # names of runs are made from it
        return Path(config.paths.output_dir)
    finally:
        HydraConfig.instance().cfg = before


def _report(results: Sequence[JobReturn]) -> None:
    """Name the failed jobs, of which Hydra itself shows only the first."""
    failed = [result for result in results if result.status is JobStatus.FAILED]
    if failed:
        print(f"{len(failed)} of {len(results)} jobs failed; the same command tries them again:", file=sys.stderr)
    for result in failed:
        error = result._return_value  # its property raises it
        log = log_file(result.hydra_cfg.hydra, result.cfg)
        print(f"  {log}\n    {type(error).__name__}: {error}", file=sys.stderr)


class Task:
    """The framework's main function, which also works in a process that did not start as its train.py.

    Such a process, on this machine or on a cluster's, has no `src` folder on its path, and no trainers or resolvers of
    ours in its registries.
    """

    def __init__(self, function: TaskFunction) -> None:
        self.function = function

    def __call__(self, config: DictConfig) -> Any:
        """Run the job."""
        return self.function(config)

    def __reduce__(self) -> tuple[Callable[..., Task], tuple[list[str], bytes]]:
        """Pickle the path first and the function apart, since reading the function imports its modules."""
        import cloudpickle

        return _restore, (sys.path, cloudpickle.dumps(self.function))


def _restore(path: list[str], function: bytes) -> Task:
    import cloudpickle

    from baldro_ext.open_unlearning import registration

    sys.path += [folder for folder in path if folder not in sys.path]
    task = Task(cloudpickle.loads(function))
    registration.register_classes()
    return task
