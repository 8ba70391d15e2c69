"""The framework's own train.py and eval.py, called in a working folder, and not again once they have succeeded."""

import os
import queue
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baldro_ext.errors import BaldroError, RefusedError
from baldro_ext.open_unlearning.registration import config_directory
from baldro_ext.registry import config_folders
from baldro_ext.tools import files

if sys.platform != "win32":
    import fcntl

Script = Literal["train", "eval"]


def choices(checkout: Path, group: str) -> set[str]:
    """Return the names of the configurations of a group: the framework's, ours, and those of other packages."""
    folders = (checkout / "configs", config_directory(), *config_folders())
    return {file.stem for folder in folders for file in (folder / group).glob("*.yaml")}


class RunError(BaldroError):
    """A command of the framework failed; the message names its log."""


@dataclass(frozen=True)
class Command:
    """One call of the framework."""

    name: str  # what it does, in words that also name its log: `unlearn NPO`
    script: Script
    overrides: tuple[str, ...]  # of Hydra
    results: tuple[str, ...]  # files that it writes into one folder, relative to the working folder

    def line(self, checkout: Path) -> str:
        """Return the command line as one would type it in the working folder."""
        return shlex.join(["python", f"{checkout}/src/{self.script}.py", *self.overrides])


class Runner:
    """Runs commands of one checkout in one working folder. Safe to share between threads.

    The output of each command goes to `logs/<name>.log`. Beside it, `logs/<name>.json` notes the command line and
    whether it has finished, by which results are recognised.

    Args:
        folder: Where the commands are typed.
        checkout: Of the framework.
        environments: One for each command that may run at a time: environment variables beyond those of this process.
    """

    def __init__(self, folder: Path, checkout: Path, environments: Sequence[Mapping[str, str]] = ({},)) -> None:
        self.folder, self.checkout, self.jobs = folder, checkout, len(environments)
        self.stopped = threading.Event()
        self._lock: int | None = None  # a file descriptor
        self._running: dict[subprocess.Popen[bytes], Command] = {}
        self._free: queue.SimpleQueue[Mapping[str, str]] = queue.SimpleQueue()
        for environment in environments:
            self._free.put(environment)

    def log(self, command: Command) -> Path:
        """Return the file with a command's output."""
        return self.folder / "logs" / f"{command.name.replace(' ', '_')}.log"

    def has_succeeded(self, command: Command) -> bool:
        """Whether this very command line has once made its results, which may have been deleted since."""
        return files.is_made(self._note(command), self._recipe(command))

    def is_done(self, command: Command) -> bool:
        """Whether this very command line has made its results, which are there."""
        return self.has_succeeded(command) and all(file.exists() for file in self._results(command))

    def in_the_way(self, commands: Sequence[Command]) -> list[Path]:
        """Return files and folders that none of these command lines made, and into which one of them would write.

        Commands that share folders belong into one call: the evaluations of one model write into the same.
        """
        notes = {command: files.recipe_of(self._note(command)) for command in commands}
        known = [it for it, note in notes.items() if note in (self._recipe(it), self._recipe(it, finished=False))]
        ours = {file.parent for command in known for file in self._results(command)}
        found = []
        for command in (command for command in commands if command not in known):
            places = self._results(command)
            places += sorted({file.parent for file in places} - ours)
            if notes[command] is None:  # not the log of another command line that ran here
                places += [self.log(command), self._note(command)]
            found += [place for place in places if place.exists() and not _is_empty(place)][:1]
        return found

    def forget(self, command: Command) -> None:
        """Remove the results of a command, because they or what they were made from are about to change."""
        files.mark_made(self._note(command), self._recipe(command, finished=False))
        for file in self._results(command):
            file.unlink(missing_ok=True)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runners out of the folder until this one, and every command that it started, has ended.

        Commands inherit the lock, so one that outlives a killed runner keeps it. There is no lock on Windows.
        """
        place = self.folder / "logs" / ".baldro-run.lock"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
        with place.open("r+") as file:  # which is closed but not unlocked: unlocking would free it for commands, too
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    who = place.read_text(errors="replace")
                    raise RefusedError(
                        f"another baldro run, or a command that it left behind, is at work in {self.folder} ({who}): "
                        "wait until it has ended, end it, or use another --folder"
                    ) from None
                self._lock = file.fileno()
            try:
                self._say_who()
                yield
            finally:
                self._lock = None

    def run(self, command: Command) -> float:
        """Run a command, and return how many seconds it took.

        Raises:
            RunError: It failed; the message has the path of the log, and its end from the last error on.
        """
        log, started = self.log(command), time.monotonic()
        try:
            self.forget(command)
            if code := self._call(command, log):
                raise RunError(
                    f"cannot {command.name} (exit code {code}): the whole output is in {shlex.quote(str(log))}, "
                    f"its end is\n{_end(log)}"
                )
            files.mark_made(self._note(command), self._recipe(command))
        except OSError as error:
            raise RunError(f"cannot {command.name}: {files.explained(error, log)}") from None
        return time.monotonic() - started

    def stop(self) -> None:
        """End the commands that are running, and those that are still to start; all of them fail."""
        self.stopped.set()
        for process in tuple(self._running):
            process.terminate()

    def _call(self, command: Command, log: Path) -> int:
        line, environment = command.line(self.checkout), self._free.get()
        try:
            with log.open("w") as output:
                print(line, file=output, flush=True)
                process = subprocess.Popen(
                    [sys.executable, *shlex.split(line)[1:]],
                    cwd=self.folder,
                    env={**os.environ, **environment},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=() if self._lock is None else (self._lock,),
                )
            self._running[process] = command
            self._say_who()
            if self.stopped.is_set():  # `stop` may have come before the process was there to be ended
                process.terminate()
            try:
                return process.wait()
            except BaseException:
                process.kill()
                raise
            finally:
                del self._running[process]
        finally:
            self._free.put(environment)

    def _say_who(self) -> None:
        """Write into the lock file who holds it."""
        who = [f"baldro run: process {os.getpid()}"]
        who += [f"{command.name}: process {process.pid}" for process, command in tuple(self._running.items())]
        if self._lock is not None:
            with suppress(OSError):  # a full disk
                os.ftruncate(self._lock, 0)
                os.pwrite(self._lock, ", ".join(who).encode(), 0)

    def _results(self, command: Command) -> list[Path]:
        return [self.folder / name for name in command.results]

    def _note(self, command: Command) -> Path:
        return self.log(command).with_suffix(".json")

    def _recipe(self, command: Command, finished: bool = True) -> dict[str, object]:
        return {"command": command.line(self.checkout), "finished": finished}


def _is_empty(place: Path) -> bool:
    return place.is_dir() and next(place.iterdir(), None) is None


def _end(log: Path) -> str:
    """Return the last lines, at most five, from the last one that names an error; progress bars may stand below it."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if re.match(r"([\w.]*Error|[\w.]+Exception)\b", line)]
    start = errors[-1] if errors else max(0, len(lines) - 5)
    return "\n".join(f"  {line}" for line in lines[start : start + 5])
