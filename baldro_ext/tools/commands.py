"""The framework's own train.py and eval.py, called in a working folder, and not again once they are done.

A result counts as done if its command's log begins with the same command line and ends in success.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from baldro_ext.errors import BaldroError

_SUCCESS = "# done in "
_PROCESSOR = re.compile(r"([\d.]+) s of processor time$")


class RunError(BaldroError):
    """A command of the framework failed; the message names its log."""


@dataclass(frozen=True)
class Command:
    """One call of the framework.

    Attributes:
        name: What it does, in words that also name its log: `unlearn NPO`.
        script: `train` or `eval`.
        overrides: Hydra overrides.
        result: A file relative to the working folder that is there once the call has succeeded.
    """

    name: str
    script: Literal["train", "eval"]
    overrides: tuple[str, ...]
    result: str

    def arguments(self, checkout: Path) -> list[str]:
        """Return the command line, Python first."""
        return [sys.executable, str(checkout / "src" / f"{self.script}.py"), *self.overrides]

    def line(self, checkout: Path) -> str:
        """Return the command line as one would type it in the working folder."""
        return shlex.join(["python", *self.arguments(checkout)[1:]])


@dataclass(frozen=True)
class Runner:
    """Runs commands of one checkout in one working folder.

    Attributes:
        folder: Where the commands are typed; their logs are in `logs`.
        checkout: Of the framework.
        say: Receives one line per command: how long it took, or that it was done before.
        threads: CPU threads of one command; `None` leaves the environment's.
        offline: Whether the Hugging Face hub is never asked.
        environment: Further environment variables of the commands.
    """

    folder: Path
    checkout: Path
    say: Callable[[str], None]
    threads: int | None = 1
    offline: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)
    # Shared with the copies that `dataclasses.replace` makes.
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set, repr=False)
    _stopped: threading.Event = field(default_factory=threading.Event, repr=False)

    def log(self, command: Command) -> Path:
        """Return the file with a command's output, below its command line."""
        return self.folder / "logs" / f"{command.name.replace(' ', '_')}.log"

    def is_done(self, command: Command) -> bool:
        """Whether this very command line has made its result, which is there."""
        return (self.folder / command.result).exists() and self.has_succeeded(command)

    def has_succeeded(self, command: Command) -> bool:
        """Whether this very command line has once made its result."""
        return self._output(command).startswith(self._first_line(command)) and self._end(command).startswith(_SUCCESS)

    def processor_seconds(self, command: Command) -> float | None:
        """Return the processor time of a command that succeeded, from its start to its end, over all its threads.

        Unlike the time on the clock it hardly depends on what else the machine did. `None` where it did not succeed.
        """
        time = _PROCESSOR.search(self._end(command)) if self.has_succeeded(command) else None
        return float(time[1]) if time else None

    def is_foreign(self, command: Command) -> bool:
        """Whether the result is there but was made by another command line, or not by a `Runner`."""
        made_here = self._output(command).startswith(self._first_line(command))
        return (self.folder / command.result).exists() and not made_here

    def forget(self, command: Command) -> None:
        """Remove what a command made, since what it made that from is about to change."""
        (self.folder / command.result).unlink(missing_ok=True)
        self.log(command).unlink(missing_ok=True)

    def run(self, command: Command) -> None:
        """Run a command, unless it is done.

        Raises:
            RunError: It failed; the message has the path of the log and its last lines.
        """
        if self.is_done(command):
            self.say(f"     {command.name}: done before")
            return
        log = self.log(command)
        log.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / command.result).unlink(missing_ok=True)
        started = time.monotonic()
        with log.open("w") as output:
            output.write(self._first_line(command))
            output.flush()
            code, processor = self._call(command, output)
            seconds = time.monotonic() - started
            if not code:
                output.write(f"\n{_SUCCESS}{seconds:.0f} s, {processor:.1f} s of processor time\n")
        if code:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise RunError(
                f"cannot {command.name} (exit code {code}): the whole output is in {log}, its end is\n{last}"
            )
        self.say(f"     {command.name}: {seconds:.0f} s")

    def stop(self) -> None:
        """End the commands that are running, and those that are still to start; all of them fail."""
        self._stopped.set()
        for process in tuple(self._running):
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(process.pid, signal.SIGTERM)

    def _call(self, command: Command, output: IO[str]) -> tuple[int, float]:
        """Return exit code and seconds of processor time."""
        environment = {**os.environ, **self.environment}
        if self.threads is not None:
            environment["OMP_NUM_THREADS"] = str(self.threads)
        if self.offline:
            environment["HF_HUB_OFFLINE"] = "1"
        process = subprocess.Popen(
            command.arguments(self.checkout), cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        self._running.add(process)
        if self._stopped.is_set():  # `stop` may have come before it was there to be ended
            os.kill(process.pid, signal.SIGTERM)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            self._running.discard(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage.ru_utime + usage.ru_stime

    def _output(self, command: Command) -> str:
        log = self.log(command)
        return log.read_text(errors="replace") if log.exists() else ""

    def _end(self, command: Command) -> str:
        return self._output(command).rstrip("\n").rpartition("\n")[2]

    def _first_line(self, command: Command) -> str:
        return " ".join(command.arguments(self.checkout)) + "\n"
