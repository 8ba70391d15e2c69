"""What the commands print in common: errors for people, and aligned columns."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from baldro_ext.errors import BaldroError


def report(error: BaldroError) -> int:
    """Print an error's message to standard error; return the exit status it asks for."""
    typer.echo(f"Error: {error}", err=True)
    return error.exit_code


@contextmanager
def reported() -> Iterator[None]:
    """End the command with the message and exit status of an error for people, without a traceback."""
    try:
        yield
    except BaldroError as error:
        raise typer.Exit(report(error)) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with 130 at Ctrl-C, and at SIGTERM alike, so that the commands that it runs are ended too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. What is finished is kept: the same command goes on from here.", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return the cells as one line, each padded to its width."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
