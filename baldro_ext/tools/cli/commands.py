"""A command group that answers an unknown command with the known ones and the closest."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from baldro_ext.suggest import known


class Group(TyperGroup):
    """The class of every group of commands: `typer.Typer(cls=Group)`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word names, or fail with exit code 2."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}: {known(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
