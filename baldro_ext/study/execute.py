"""Carry a study out: in parallel, going on where it stopped, and losing nothing to a command that fails.

What a command made is kept and not made again. What something else made is never replaced unless asked for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout

from baldro_ext import suggest
from baldro_ext.errors import BaldroError
from baldro_ext.runs import Command, RunError, Runner
from baldro_ext.study import record
from baldro_ext.study.methods import StudyError
from baldro_ext.study.plan import Run, Study


class OccupiedError(BaldroError):
    """Other results lie where the study's would go."""

    exit_code = 4


@dataclass(frozen=True)
class Failure:
    """A command that failed: its name, its log, and the end of its output."""

    name: str
    log: Path
    message: str


@dataclass
class Progress:
    """Counts commands, and says after each how many remain and about how long they take.

    Attributes:
        total: How many commands there are.
        say: Receives the lines.
    """

    total: int
    say: Callable[[str], None]
    _done: int = 0
    _ran: int = 0
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, line: str) -> None:
        """Count one command, and say how it ended."""
        with self._lock:
            self._done += 1
            self._ran += not line.endswith("done before")
            left = self.total - self._done
            rest = ""
            if left and self._ran:
                rest = f"; {left} left, about {_duration(left * (time.monotonic() - self._started) / self._ran)}"
            self.say(f"[{self._done}/{self.total}] {line.strip()}{rest}")


def execute(
    study: Study, runners: Sequence[Runner], say: Callable[[str], None], overwrite: bool = False
) -> list[Failure]:
    """Run what is not done yet, and return what failed.

    Args:
        study: What to do.
        runners: As many commands run side by side; all of one working folder and checkout.
        say: Receives one line per command.
        overwrite: Whether to replace results that other commands made.

    Raises:
        StudyError: There is no such trainer.
        OccupiedError: Results of other commands are in the way, or another call is at work in the folder.
        RunError: The retain model could not be evaluated, which all evaluations compare with.
        KeyboardInterrupt: As it came; commands that ran are ended, and run again with the next call.
    """
    runner = runners[0]
    retain, runs = study.retain(), study.runs()
    _check_trainers(study, runner.checkout)
    with _alone(runner.folder):
        if not overwrite:
            _check_free(
                runner, [*(retain.commands if retain else ()), *(c for run in runs for c in run.commands)], retain
            )
        progress = Progress(sum(len(run.commands) for run in runs) + (retain is not None), say)
        runners = [replace(runner, say=progress) for runner in runners]
        if retain:
            _make_retain(study, retain, runners[0], progress)
        return _side_by_side(study, runs, runners, progress)


def lines(study: Study, runner: Runner) -> list[str]:
    """Return the commands that are not done yet, as typed in the working folder."""
    retain = study.retain()
    pending = [] if retain is None or _is_there(retain, runner) else list(retain.commands)
    pending += [command for run in study.runs() for command in run.commands if not runner.is_done(command)]
    return [command.line(runner.checkout) for command in pending]


def trainers(checkout: Path) -> set[str]:
    """Return the names that `trainer=` knows: the framework's and ours."""
    from baldro_ext.registration import config_directory

    return {
        path.stem
        for folder in (checkout / "configs", config_directory())
        for path in (folder / "trainer").glob("*.yaml")
    }


def _check_trainers(study: Study, checkout: Path) -> None:
    there = trainers(checkout)
    for method in study.methods:
        if method.trainer not in there:
            raise StudyError(f"unknown trainer {method.trainer!r}: {suggest.known(method.trainer, there)}")


def _check_free(runner: Runner, commands: Iterable[Command], retain: Run | None) -> None:
    used_as_it_is = retain.commands if retain and not runner.log(retain.commands[0]).exists() else ()
    taken = [command for command in commands if runner.is_foreign(command) and command not in used_as_it_is]
    if taken:
        more = f" (and {len(taken) - 3} more)" if len(taken) > 3 else ""
        raise OccupiedError(
            f"{', '.join(command.result for command in taken[:3])}{more} in {runner.folder} came from another command "
            "line, so nothing was run.\nKeep them by another --folder or another label, as in 'again=NPO'; or let them "
            "be replaced by --overwrite."
        )


def _alone(folder: Path) -> FileLock:
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "logs" / ".baldro-run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OccupiedError(
            f"another baldro run is at work in {folder}: wait for it, or use another --folder"
        ) from None
    return lock


def _is_there(retain: Run, runner: Runner) -> bool:
    """Whether the retain model's evaluation can be used: finished by us, or put there by someone else."""
    (command,) = retain.commands
    return runner.is_done(command) or (runner.is_foreign(command) and not runner.log(command).exists())


def _make_retain(study: Study, retain: Run, runner: Runner, progress: Progress) -> None:
    (command,) = retain.commands
    if _is_there(retain, runner):
        progress(f"{command.name}: done before")
        return
    runner.run(command)
    _note(study, retain, runner, jobs=1)


def _side_by_side(study: Study, runs: Sequence[Run], runners: Sequence[Runner], progress: Progress) -> list[Failure]:
    free: queue.SimpleQueue[Runner] = queue.SimpleQueue()
    for runner in runners:
        free.put(runner)
    stopped = threading.Event()

    def work(run: Run) -> list[Failure]:
        runner = free.get()
        try:
            return [] if stopped.is_set() else _carry_out(study, run, runner, progress, stopped, len(runners))
        finally:
            free.put(runner)

    with ThreadPoolExecutor(max_workers=len(runners)) as pool:
        jobs: list[Future[list[Failure]]] = [pool.submit(work, run) for run in runs]
        try:
            return [failure for job in jobs for failure in job.result()]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            runners[0].stop()
            raise


def _carry_out(
    study: Study, run: Run, runner: Runner, progress: Progress, stopped: threading.Event, jobs: int
) -> list[Failure]:
    if run.training and not runner.is_done(run.training):
        for evaluation in run.evaluations:
            runner.forget(evaluation)
    failures: list[Failure] = []
    for command in run.commands:
        if stopped.is_set():
            return failures
        try:
            runner.run(command)
        except RunError as error:
            progress(f"{command.name}: FAILED, see {runner.log(command)}")
            failures.append(Failure(command.name, runner.log(command), str(error)))
            if command is run.training:
                for evaluation in run.evaluations:
                    progress(f"{evaluation.name}: left out, for there is no model")
                return failures
    if not failures:
        _note(study, run, runner, jobs)
    return failures


def _note(study: Study, run: Run, runner: Runner, jobs: int) -> None:
    noted = record.of(study, run, runner.folder, runner.checkout, jobs)
    record.write(noted, runner.folder / "saves" / "eval" / run.task / record.FILE)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"
