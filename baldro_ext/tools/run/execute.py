"""Carry a study out: in parallel, going on where it stopped, and losing nothing to a command that fails.

What a command made is kept and not made again. What something else made is never replaced unless asked for.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from baldro_ext import suggest
from baldro_ext.errors import BaldroError
from baldro_ext.tools.commands import Command, RunError, Runner
from baldro_ext.tools.run import record
from baldro_ext.tools.run.methods import StudyError
from baldro_ext.tools.run.plan import Run, Study
from baldro_ext.tools.run.progress import Progress


class OccupiedError(BaldroError):
    """Other results lie where the study's would go."""

    exit_code = 4


@dataclass(frozen=True)
class Failure:
    """A command that failed: its name, its log, and the line of the log that says why, as far as one can tell."""

    name: str
    log: Path
    reason: str


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
    """Return the commands that are not done yet, as typed in the working folder; StudyError as `execute`."""
    _check_trainers(study, runner.checkout)
    retain = study.retain()
    first = () if retain is None or _is_there(retain, runner) else retain.commands
    commands = [*first, *(command for run in study.runs() for command in pending(run, runner))]
    return [command.line(runner.checkout) for command in commands]


def pending(run: Run, runner: Runner) -> tuple[Command, ...]:
    """Return what is left to do of a run, in order.

    A model that was evaluated and then deleted, as large ones are, is not trained again.
    """
    left = tuple(evaluation for evaluation in run.evaluations if not runner.is_done(evaluation))
    if run.training is None or runner.is_done(run.training):
        return left
    return run.commands if left or not runner.has_succeeded(run.training) else ()


def trainers(checkout: Path) -> set[str]:
    """Return the names that `trainer=` knows: the framework's and ours."""
    from baldro_ext.open_unlearning.registration import config_directory

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
    left = pending(run, runner)
    for command in run.commands:
        if command not in left:
            progress(f"{command.name}: done before")
    if run.training in left:
        for evaluation in run.evaluations:
            runner.forget(evaluation)
    failures: list[Failure] = []
    for command in left:
        if stopped.is_set():
            return failures
        try:
            runner.run(command)
        except RunError:
            if stopped.is_set():
                return failures
            progress(f"{command.name}: FAILED, see {runner.log(command)}")
            failures.append(Failure(command.name, runner.log(command), _reason(runner.log(command))))
            if command is run.training:
                for evaluation in run.evaluations:
                    progress(f"{evaluation.name}: left out, for there is no model")
                return failures
    if not failures and (left or not _record_file(run, runner).exists()):
        _note(study, run, runner, jobs)
    return failures


def _note(study: Study, run: Run, runner: Runner, jobs: int) -> None:
    record.write(record.of(study, run, runner, jobs), _record_file(run, runner))


def _record_file(run: Run, runner: Runner) -> Path:
    return runner.folder / "saves" / "eval" / run.task / record.FILE


def _reason(log: Path) -> str:
    """Return the last line that names an error, or the last line; progress bars may stand below it."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return next((line for line in reversed(lines) if re.match(r"[\w.]+(Error|Exception)\b", line)), lines[-1])
