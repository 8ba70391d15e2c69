"""Carry a study out: in parallel, going on where it stopped, and losing nothing to a command that fails.

What a command made is kept and not made again. What something else made is never replaced unless asked for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from baldro_ext import suggest
from baldro_ext.open_unlearning.registration import config_directory
from baldro_ext.registry import config_folders
from baldro_ext.tools.commands import Command, RunError, Runner
from baldro_ext.tools.files import NotOursError
from baldro_ext.tools.run import record
from baldro_ext.tools.run.benchmarks import StudyError
from baldro_ext.tools.run.study import Run, Study


@dataclass
class _Progress:
    """Counts commands, and says after each how many remain and about how long they take."""

    total: int
    say: Callable[[str], None]
    done: int = 0
    ran: int = 0
    started: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, line: str, seconds: float | None = None) -> None:
        """Count one command and say how it ended; `seconds` only of one that ran to its end."""
        with self.lock:
            self.done += 1
            if seconds is not None:
                self.ran += 1
                line += f": {seconds:.0f} s"
            if (left := self.total - self.done) and self.ran:
                minutes = max(1, round(left * (time.monotonic() - self.started) / self.ran / 60))
                hours = f"{minutes // 60} h " if minutes >= 60 else ""
                line += f"; {left} left, about {hours}{minutes % 60} min"
            self.say(f"[{self.done}/{self.total}] {line}")


def execute(study: Study, runner: Runner, say: Callable[[str], None], overwrite: bool = False) -> list[str]:
    """Run what is not done yet, and return a message for each command that failed.

    Args:
        study: What to do.
        runner: Says where, and how many commands run at a time.
        say: Receives a line when a command begins and one when it has ended.
        overwrite: Whether to replace results that other commands made.

    Raises:
        StudyError: There is no such trainer.
        NotOursError: Results of other commands are in the way, or another call is at work in the folder.
        RunError: The retain model could not be evaluated, which all evaluations compare with.
        KeyboardInterrupt: As it came; commands that ran are ended, and run again with the next call.
    """
    _check_trainers(study, runner.checkout)
    everything = _everything(study)
    with _lock(runner.folder):
        if not overwrite:
            _check_free(everything, runner)
        progress = _Progress(sum(len(run.commands) for run in everything), say)
        if study.retain and (failures := _carry_out(study, study.retain, runner, progress)):
            raise RunError(failures[0])
        with ThreadPoolExecutor(runner.jobs) as pool:
            try:
                results = list(pool.map(lambda run: _carry_out(study, run, runner, progress), study.runs))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
                raise
        return [failure for failures in results for failure in failures]


def lines(study: Study, runner: Runner) -> list[str]:
    """Return the commands that are not done yet, as typed in the working folder; StudyError as `execute`."""
    _check_trainers(study, runner.checkout)
    return [command.line(runner.checkout) for run in _everything(study) for command in _pending(run, runner)]


def _everything(study: Study) -> tuple[Run, ...]:
    return (*((study.retain,) if study.retain else ()), *study.runs)


def _pending(run: Run, runner: Runner) -> tuple[Command, ...]:
    """Return what is left to do of a run, in order.

    A model that was evaluated and then deleted, as large ones are, is not trained again.
    """
    left = tuple(evaluation for evaluation in run.evaluations if not runner.is_done(evaluation))
    if run.training is None or runner.is_done(run.training):
        return left
    return run.commands if left or not runner.has_succeeded(run.training) else ()


def _check_trainers(study: Study, checkout: Path) -> None:
    folders = (checkout / "configs", config_directory(), *config_folders())
    known = {path.stem for folder in folders for path in (folder / "trainer").glob("*.yaml")}
    for method in study.methods:
        if method.trainer not in known:
            raise StudyError(f"unknown trainer {method.trainer!r}: {suggest.known(method.trainer, known)}")


def _check_free(runs: tuple[Run, ...], runner: Runner) -> None:
    taken = [command.results[0] for run in runs for command in run.commands if runner.is_foreign(command)]
    if taken:
        raise NotOursError(
            f"{suggest.shortened(taken, 3)} in {runner.folder} came from another command line, so nothing was run.\n"
            "Choose another --folder or another label, as in 'again=NPO'; replace them by --overwrite; or name an "
            "evaluation of the retain model that is there by --retain-logs instead of --retain-model."
        )


def _lock(folder: Path) -> FileLock:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "logs" / ".baldro-run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise NotOursError(f"another baldro run is at work in {folder}: wait for it, or use another --folder") from None
    return lock


def _carry_out(study: Study, run: Run, runner: Runner, progress: _Progress) -> list[str]:
    left = _pending(run, runner)
    if run.training in left:
        for evaluation in run.evaluations:
            runner.forget(evaluation)
    failures: list[str] = []
    for command in run.commands:
        if command not in left:
            progress(f"{command.name}: done before")
        elif failures and run.training in left:
            progress(f"{command.name}: left out, because there is no model")
        elif not runner.stopped.is_set():
            progress.say(f"{command.name} ...    log: {runner.log(command)}")
            try:
                progress(command.name, runner.run(command))
            except RunError as error:
                if not runner.stopped.is_set():
                    progress(f"{command.name}: FAILED, see {runner.log(command)}")
                    failures.append(str(error))
    if not failures and not runner.stopped.is_set() and (left or not record.file(run, runner).exists()):
        record.write(study, run, runner)
    return failures
