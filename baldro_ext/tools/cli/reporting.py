"""How commands end: errors for people instead of tracebacks, and interruptions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from baldro_ext.errors import BaldroError


def report(error: BaldroError) -> int:
    """Print the message of an error to standard error; return its exit code."""
    typer.echo(f"Error: {error}", err=True)
    return error.exit_code


@contextmanager
def reported() -> Iterator[None]:
    """End the command with the message and exit code of a BaldroError, without a traceback."""
    try:
        yield
    except BaldroError as error:
        raise typer.Exit(report(error)) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with exit code 130 on Ctrl-C, and on SIGTERM alike so that the commands it runs end too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. What is finished is kept: the same command continues from here.", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
