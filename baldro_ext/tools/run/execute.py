"""Carry a study out: in parallel, going on where it stopped, and losing nothing to a command that fails.

What a command made is kept and not made again. What something else made is never replaced unless asked for.
"""

import shlex
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from baldro_ext import suggest
from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.commands import Command, RunError, Runner, choices
from baldro_ext.tools.run import record
from baldro_ext.tools.run.study import Run, Study


def execute(study: Study, runner: Runner, say: Callable[[str], None], overwrite: bool = False) -> list[str]:
    """Run what is not done yet, and return a message for each command that failed.

    Args:
        study: What to do.
        runner: Says where, and how many commands run at a time.
        say: Receives a line when a command begins, with its log, and when it has ended.
        overwrite: Whether to replace results that other commands made.

    Raises:
        UsageError: There is no such trainer, or another name is unknown to the framework.
        RefusedError: Files of others are in the way, or another call is at work in the folder.
        RunError: The retain model could not be evaluated, which all evaluations compare with.
        OSError: The folder cannot be used.
        KeyboardInterrupt: As it came; commands that ran are ended, and run again with the next call.
    """
    _check_names(study, runner)
    with runner.alone():
        execution = _Execution(study, runner, say)
        if not overwrite:
            _check_free(study, [*execution.pending], runner)
        execution.say_what_is_done()
        if study.retain and (failures := execution.carry_out(study.retain)):
            raise RunError(failures[0])
        with ThreadPoolExecutor(runner.jobs) as pool:
            try:
                return [failure for failures in pool.map(execution.carry_out, study.runs) for failure in failures]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
                raise


def lines(study: Study, runner: Runner) -> list[str]:
    """Return the commands that are not done yet, as typed in the working folder; UsageError as `execute`."""
    _check_names(study, runner)
    return [command.line(runner.checkout) for left in _pending(study, runner).values() for command in left]


def _check_names(study: Study, runner: Runner) -> None:
    """Refuse names that no configuration or file has, as the framework would."""
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
        suggest.chosen(last, known, what)
    if study.retain_logs and not (runner.folder / study.retain_logs).is_file():
        raise UsageError(f"--retain-logs: there is no file {study.retain_logs} in {runner.folder}")


def _pending(study: Study, runner: Runner) -> dict[Run, tuple[Command, ...]]:
    """Return what is left to do of each run of a study, in order."""
    pending: dict[Run, tuple[Command, ...]] = {}
    for run in (study.retain, *study.runs):
        if run:
            pending[run] = _left(run, runner)
        if run and (again := run.relearning):
            pending[again] = again.commands if run.training in pending[run] else _left(again, runner)
    return pending


def _left(run: Run, runner: Runner) -> tuple[Command, ...]:
    """Return what is left to do of a run, in order.

    A model that was evaluated and then deleted, as large ones are, is not trained again.
    """
    left = tuple(evaluation for evaluation in run.evaluations if not runner.is_done(evaluation))
    if run.training is None or runner.is_done(run.training):
        return left
    is_needed = left or (run.relearning and run.relearning.training in _left(run.relearning, runner))
    return run.commands if is_needed or not runner.has_succeeded(run.training) else ()


def _check_free(study: Study, runs: list[Run], runner: Runner) -> None:
    taken = {run: places for run in runs if (places := runner.in_the_way(run.commands))}
    if taken:
        names = [str(place.relative_to(runner.folder)) for places in taken.values() for place in places]
        # The models before unlearning and that never knew are there whatever the labels.
        label = " or another label, as in 'again=NPO'" if all(run.method for run in taken) else ""
        logs = ", or name this evaluation by --retain-logs instead of --retain-model" if study.retain in taken else ""
        raise RefusedError(
            f"{suggest.shortened(names, 3)} in {runner.folder} came from another command line or were not made by "
            f"baldro, so nothing was run.\nChoose another --folder{label}, or replace them by --overwrite{logs}."
        )


class _Execution:
    """Carries runs out, and says after each command how many have ended and about how long the rest will take."""

    def __init__(self, study: Study, runner: Runner, say: Callable[[str], None]) -> None:
        self.pending = _pending(study, runner)
        self._study, self._runner, self._say = study, runner, say
        self._total, self._ended, self._ran = sum(len(run.commands) for run in self.pending), 0, 0
        self._started, self._lock = time.monotonic(), threading.Lock()

    def say_what_is_done(self) -> None:
        """Count the commands that are not to run again."""
        for run, left in self.pending.items():
            for command in run.commands:
                if command not in left:
                    self._end(f"{command.name}: done before")

    def carry_out(self, run: Run, has_model: bool = True) -> list[str]:
        """Run what is left of a run, write its record, and go on with its relearning; return what failed."""
        runner, left, failures = self._runner, self.pending[run], list[str]()
        if {run.training, run.evaluations[0]} & {*left}:  # not if only tasks of lm-eval are added
            record.file(run, runner).unlink(missing_ok=True)
        if run.training in left:
            for later in (*run.evaluations, *(run.relearning.commands if run.relearning else ())):
                runner.forget(later)
        for command in left:
            if not has_model or (failures and run.training in left):
                self._end(f"{command.name}: left out, because there is no model")
            elif not runner.stopped.is_set():
                log = shlex.quote(str(runner.log(command)))
                self._say(f"{command.name}, log: {log}")
                try:
                    self._end(command.name, runner.run(command))
                except RunError as error:
                    if not runner.stopped.is_set():
                        self._end(f"{command.name}: FAILED, see {log}")
                        failures.append(str(error))
        ended = has_model and not failures and not runner.stopped.is_set()
        if ended and (left or not record.file(run, runner).exists()):
            record.write(self._study, run, runner)
        if run.relearning and not runner.stopped.is_set():
            made = run.training not in left or (run.training and runner.is_done(run.training))
            failures += self.carry_out(run.relearning, bool(made))
        return failures

    def _end(self, line: str, seconds: float | None = None) -> None:
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
