"""Carry a study out: in parallel, going on where it stopped, and losing nothing to a command that fails.

What a command made is kept and not made again. What something else made is never replaced unless asked for.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from baldro_ext import suggest
from baldro_ext.tools.commands import Command, RunError, Runner, choices
from baldro_ext.tools.files import NotOursError
from baldro_ext.tools.run import record
from baldro_ext.tools.run.benchmarks import StudyError
from baldro_ext.tools.run.study import Run, Study


class _Progress:
    """Says which command begins, and after each how many have ended and about how long the rest will take."""

    def __init__(self, total: int, say: Callable[[str], None], starts: bool) -> None:
        self._total, self._say, self._starts = total, say, starts
        self._ended = self._ran = 0
        self._started, self._lock = time.monotonic(), threading.Lock()

    def begin(self, line: str) -> None:
        """Say which command begins."""
        if self._starts:
            self._say(line)

    def end(self, line: str, seconds: float | None = None) -> None:
        """Count a command that has ended, or is not to run, and say how; `seconds` only of one that ran to its end."""
        with self._lock:
            self._ended += 1
            if seconds is not None:
                self._ran += 1
                line += f": {seconds:.0f} s"
            if (left := self._total - self._ended) and seconds is not None:
                minutes = max(1, round(left * (time.monotonic() - self._started) / self._ran / 60))
                hours = f"{minutes // 60} h " if minutes >= 60 else ""
                line += f"; {left} left, about {hours}{minutes % 60} min"
            self._say(f"[{self._ended}/{self._total}] {line}")


def execute(
    study: Study, runner: Runner, say: Callable[[str], None], overwrite: bool = False, starts: bool = True
) -> list[str]:
    """Run what is not done yet, and return a message for each command that failed.

    Args:
        study: What to do.
        runner: Says where, and how many commands run at a time.
        say: Receives a line when a command has ended.
        overwrite: Whether to replace results that other commands made.
        starts: Whether to say when a command begins, too, and where its log is.

    Raises:
        StudyError: There is no such trainer, or another name is unknown to the framework.
        NotOursError: Files of others are in the way, or another call is at work in the folder.
        RunError: The retain model could not be evaluated, which all evaluations compare with.
        OSError: The folder cannot be used.
        KeyboardInterrupt: As it came; commands that ran are ended, and run again with the next call.
    """
    everything = _checked_runs(study, runner)
    with runner.alone():
        if not overwrite:
            _check_free(everything, runner)
        progress = _Progress(sum(len(run.commands) for run in everything), say, starts)
        if study.retain and (failures := _carry_out(study, study.retain, runner, progress)):
            raise RunError(failures[0])
        with ThreadPoolExecutor(runner.jobs) as pool:
            try:
                failed = pool.map(lambda run: _carry_out(study, run, runner, progress), study.runs)
                return [failure for failures in failed for failure in failures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
                raise


def lines(study: Study, runner: Runner) -> list[str]:
    """Return the commands that are not done yet, as typed in the working folder; StudyError as `execute`."""
    everything = _checked_runs(study, runner)
    return [command.line(runner.checkout) for run in everything for command in _pending(run, runner)]


def _checked_runs(study: Study, runner: Runner) -> list[Run]:
    """Return all runs of a study, in order; refuse names that no configuration or file has, as the framework would."""
    metrics = f"eval/{study.benchmark.suite}_metrics"
    asked = [("trainer", "trainer", method.trainer) for method in study.methods]
    asked += [("--metrics", metrics, name) for name in study.metrics]
    asked += [("--every-epoch", metrics, name) for name in study.every_epoch]
    asked += [("--model-config", "model", name) for name in (study.model_config,) if name]
    asked += [("--hardware", "hardware", name) for name in (study.hardware,) if name]
    asked += [("--experiment", "experiment", study.experiment)]
    for what, group, name in asked:
        parent, _, last = f"{group}/{name}".rpartition("/")
        known = choices(runner.checkout, parent)
        if group == "hardware":  # one configuration for trainings and one, with this ending, for evaluations
            known = {one for one in known if f"{one}_eval" in known}
        if last not in known:
            raise StudyError(f"{what}: {name!r} is unknown: {suggest.known(last, known)}")
    if study.retain_logs and not (runner.folder / study.retain_logs).is_file():
        raise StudyError(f"--retain-logs: there is no file {study.retain_logs} in {runner.folder}")
    return [one for run in (study.retain, *study.runs) if run for one in (run, run.relearning) if one]


def _pending(run: Run, runner: Runner) -> tuple[Command, ...]:
    """Return what is left to do of a run, in order.

    A model that was evaluated and then deleted, as large ones are, is not trained again.
    """
    left = tuple(evaluation for evaluation in run.evaluations if not runner.is_done(evaluation))
    if run.training is None or runner.is_done(run.training):
        return left
    is_needed = left or (run.relearning and run.relearning.training in _pending(run.relearning, runner))
    return run.commands if is_needed or not runner.has_succeeded(run.training) else ()


def _check_free(runs: list[Run], runner: Runner) -> None:
    taken = [place for run in runs for place in runner.in_the_way(run.commands)]
    if taken:
        names = [str(place.relative_to(runner.folder)) for place in taken]
        raise NotOursError(
            f"{suggest.shortened(names, 3)} in {runner.folder} came from another command line or were not made by "
            "baldro, so nothing was run.\n"
            "Choose another --folder or another label, as in 'again=NPO'; replace them by --overwrite; or name an "
            "evaluation of the retain model that is there by --retain-logs instead of --retain-model."
        )


def _carry_out(study: Study, run: Run, runner: Runner, progress: _Progress, has_model: bool = True) -> list[str]:
    left = _pending(run, runner)
    if left:
        record.file(run, runner).unlink(missing_ok=True)
    if run.training in left:
        for later in (*run.evaluations, *(run.relearning.commands if run.relearning else ())):
            runner.forget(later)
    failures: list[str] = []
    for command in run.commands:
        if command not in left:
            progress.end(f"{command.name}: done before")
        elif not has_model or (failures and run.training in left):
            progress.end(f"{command.name}: left out, because there is no model")
        elif not runner.stopped.is_set():
            log = shlex.quote(str(runner.log(command)))
            progress.begin(f"{command.name}, log: {log}")
            try:
                progress.end(command.name, runner.run(command))
            except RunError as error:
                if not runner.stopped.is_set():
                    progress.end(f"{command.name}: FAILED, see {log}")
                    failures.append(str(error))
    if has_model and not failures and not runner.stopped.is_set() and not record.file(run, runner).exists():
        record.write(study, run, runner)
    if run.relearning and not runner.stopped.is_set():
        made = run.training not in left or (run.training and runner.is_done(run.training))
        failures += _carry_out(study, run.relearning, runner, progress, bool(made))
    return failures
