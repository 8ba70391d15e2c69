"""A Hydra callback for sweeps over `src/train.py`: records each job's result and returns the value to optimise.

It runs in the process of the job and works with Hydra's own launchers and sweepers. When a job ends, it writes
`sweep.json` to the folder of the trained model:

    status      "done" or "failed"
    overrides   Hydra overrides of the job
    value       the objective, or null if the sweep has none
    error       why the job failed, or null

Importing this module registers the resolvers that name a job's folder. A process started by submitit loads its
callbacks first, and nothing else registers the resolvers there.
"""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from baldro_ext import suggest
from baldro_ext.errors import BaldroError
from baldro_ext.open_unlearning import registration, resolvers

FILE = "sweep.json"
logger = logging.getLogger(__name__)


class SweepError(BaldroError):
    """A job cannot run or has no usable result; the message says what to do."""


class Outcome(Callback):
    """The Hydra callback of a sweep.

    Args:
        objective: Terms whose sum the sweeper optimises, each a metric of the last evaluation during training with an
            optional weight: `["model_utility", "-0.5*extraction_strength"]`. Empty for no objective.

    Raises:
        SweepError: A term does not have this form.
    """

    def __init__(self, objective: Iterable[str] = ()) -> None:
        self.objective = dict(_term(text) for text in objective)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Put the framework's `src` folder on the `PYTHONPATH` of processes that a launcher starts."""
        source = os.path.abspath(sys.path[0])
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Register the trainers; in a process started by a launcher, nothing else does."""
        if registration.open_unlearning_is_loaded():
            registration.register_classes()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write `sweep.json` and return the job's value to the sweeper; the framework's train.py returns none."""
        folder, value, error = Path(config.paths.output_dir), None, None
        try:
            job_return.return_value = value = self._value(folder, job_return)
        except Exception as failure:  # the framework may raise anything
            job_return.status, job_return.return_value = JobStatus.FAILED, failure
            error = f"{type(failure).__name__}: {failure}"
            log = Path(config.hydra.runtime.output_dir) / f"{config.trainer.handler}.log"
            logger.error("%s failed, see %s", folder.name, log, exc_info=failure)
        else:
            logger.info("%s is done%s", folder.name, "" if value is None else f": {value:.4g}")
        job = {"status": "failed" if error else "done", "overrides": list(config.hydra.overrides.task)}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps({**job, "value": value, "error": error}, indent=2) + "\n")
        with contextlib.suppress(OSError):  # submitit's launchers leave an empty folder beside their logs
            (Path(config.hydra.sweep.dir) / ".submitit" / "%j").rmdir()

    def _value(self, folder: Path, job_return: JobReturn) -> float | None:
        if job_return.status is JobStatus.FAILED:
            raise job_return._return_value  # the public property would print the overrides once more
        if not self.objective:
            return None
        summary = last_summary(folder)
        if missing := self.objective.keys() - summary.keys():
            name = min(missing)
            raise SweepError(
                f"the objective asks for {name!r}, which was not evaluated: {suggest.known(name, summary)}"
            )
        return sum(weight * summary[name] for name, weight in self.objective.items())


def last_summary(folder: Path) -> dict[str, float]:
    """Return the metrics of the last evaluation during training.

    Raises:
        SweepError: There was none.
    """
    steps: dict[int, dict[str, float]] = {}
    for file in folder.glob("checkpoint-*/evals/*_SUMMARY.json"):
        step = int(file.parts[-3].removeprefix("checkpoint-"))
        steps.setdefault(step, {}).update(json.loads(file.read_text()))
    if not steps:
        raise SweepError(
            f"{folder} has no evaluation to optimise: evaluate during training, with trainer.args.eval_strategy=epoch"
        )
    return steps[max(steps)]


def job_folder(name: str, *, _root_: DictConfig) -> str:
    """Return the name of a job's folder, after checking that it holds no finished result of other settings.

    Resolves `hydra.sweep.subdir`, the only place that can stop Hydra before it writes to the folder.

    Raises:
        SweepError: The folder holds such a result.
    """
    file = Path(_root_.paths.output_dir) / FILE
    job = json.loads(file.read_text()) if file.exists() else {}
    if job.get("status") == "done" and sorted(job["overrides"]) != sorted(_root_.hydra.overrides.task):
        raise SweepError(
            f"{file.parent} holds the result of other settings, {' '.join(job['overrides'])}: move it away, or give "
            "this sweep its own task_name"
        )
    return name


def _term(text: str) -> tuple[str, float]:
    """Parse a term: `-0.5*model_utility` gives `("model_utility", -0.5)`."""
    match = re.fullmatch(r"(-?)(?:([\d.]+(?:e[+-]?\d+)?)\*)?([A-Za-z][\w/]*)", text.strip())
    if not match:
        raise SweepError(
            f"{text!r} is not a term of an objective: use a metric and its weight, as in -0.5*model_utility"
        )
    return match[3], float(f"{match[1]}{match[2] or 1}")


resolvers.register()
OmegaConf.register_new_resolver("baldro.job_folder", job_folder, replace=True)
