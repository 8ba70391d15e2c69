"""The framework's own train.py and eval.py, called in a working folder, and not again once they are done.

A result counts as done if the log beside it begins with the same command line.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baldro_ext.errors import BaldroError


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
        threads: CPU threads of one command.
    """

    folder: Path
    checkout: Path
    say: Callable[[str], None]
    threads: int = 1

    def log(self, command: Command) -> Path:
        """Return the file with a command's output, below its command line."""
        return self.folder / "logs" / f"{command.name.replace(' ', '_')}.log"

    def is_done(self, command: Command) -> bool:
        """Whether this very command line has made its result."""
        log = self.log(command)
        return (
            (self.folder / command.result).exists()
            and log.exists()
            and log.read_text(errors="replace").startswith(self._first_line(command))
        )

    def run(self, command: Command) -> None:
        """Run a command, unless it is done.

        Raises:
            RunError: It failed; the message has the path of the log and its last lines.
        """
        if self.is_done(command):
            self.say(f"     {command.name}: done before")
            return
        log = self.log(command)
        log.parent.mkdir(exist_ok=True)
        (self.folder / command.result).unlink(missing_ok=True)
        started = time.monotonic()
        with log.open("w") as output:
            output.write(self._first_line(command))
            output.flush()
            environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(
                command.arguments(self.checkout),
                cwd=self.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise RunError(
                f"cannot {command.name} (exit code {done.returncode}): the whole output is in {log}, its end is\n{last}"
            )
        self.say(f"     {command.name}: {time.monotonic() - started:.0f} s")

    def _first_line(self, command: Command) -> str:
        return " ".join(command.arguments(self.checkout)) + "\n"
