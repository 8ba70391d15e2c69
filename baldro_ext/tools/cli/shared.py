"""What the commands share: how they end, the words that they are given, and how the program was called."""

import logging
import math
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from baldro_ext.errors import BaldroError
from baldro_ext.tools.files import explained

_Number = TypeVar("_Number", int, float)


class Group(TyperGroup):
    """The class of every group of commands: `typer.Typer(cls=Group)`."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; end it with the message and exit code of what stopped it, without a traceback.

        SIGTERM and SIGHUP interrupt it as Ctrl-C does, so that the commands it runs end too.
        """
        for number in (getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")):
            if number and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("\nInterrupted. What is finished is kept: the same command continues from here.", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of a pipe has seen enough
            raise
        except (BaldroError, OSError) as error:
            typer.echo(f"Error: {explained(error) if isinstance(error, OSError) else error}", err=True)
            raise typer.Exit(getattr(error, "exit_code", 1)) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep deepspeed, which transformers and the framework import, from announcing itself."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def program() -> str:
    """Return how this program was called, for printed commands that can be pasted into the same shell."""
    called = Path(sys.argv[0])
    if called.name != "baldro" or shutil.which("baldro") == str(called.absolute()):
        return "baldro"
    return shlex.quote(str(called))


def names(text: str, needed: str = "") -> tuple[str, ...]:
    """Return the names in a list such as `a,b`; an option that is `needed` is refused without any."""
    given = tuple(word.strip() for word in text.split(",") if word.strip())
    if needed and not given:
        raise typer.BadParameter(f"{text!r} has no name: leave the option out, or name at least one", param_hint=needed)
    return given


def numbers(text: str, option: str, kind: type[_Number] = int) -> tuple[_Number, ...]:
    """Return the numbers in a list such as `0,1`; a wrong one ends the command with exit code 2."""
    try:
        found = tuple(map(kind, names(text)))
        if all(map(math.isfinite, found)):
            return found
        raise ValueError
    except (ValueError, OverflowError):  # the latter for an integer of hundreds of digits
        what, example = ("whole numbers", "0,1,2") if kind is int else ("numbers", "0.4,0.5")
        raise typer.BadParameter(f"{text!r} is not a list of {what}; use {example}", param_hint=option) from None
