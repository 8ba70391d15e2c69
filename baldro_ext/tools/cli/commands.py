"""The words of the command line: mistyped commands, and how the program itself was called."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperGroup

from baldro_ext.suggest import known

_Number = TypeVar("_Number", int, float)


class Group(TyperGroup):
    """The class of every group of commands: `typer.Typer(cls=Group)`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names, or fail with exit code 2 and the closest name."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}: {known(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


def program() -> str:
    """Return how this program was called, for printed commands that can be pasted into the same shell."""
    called = Path(sys.argv[0])
    if called.name != "baldro" or shutil.which("baldro") == str(called.absolute()):
        return "baldro"
    return shlex.quote(str(called))


def names(text: str) -> tuple[str, ...]:
    """Return the names in a list such as `a,b`."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def numbers(text: str, option: str, kind: type[_Number] = int) -> tuple[_Number, ...]:
    """Return the numbers in a list such as `0,1`; a wrong one ends the command with exit code 2."""
    try:
        found = tuple(kind(name) for name in names(text))
        if all(map(math.isfinite, found)):
            return found
        raise ValueError
    except ValueError:
        what, example = ("whole numbers", "0,1,2") if kind is int else ("numbers", "0.4,0.5")
        raise typer.BadParameter(f"{text!r} is not a list of {what}; use {example}", param_hint=option) from None
