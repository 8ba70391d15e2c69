"""How commands end: with messages instead of tracebacks, and when they are interrupted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from baldro_ext.errors import BaldroError
from baldro_ext.tools.files import explained


def report(error: BaldroError) -> int:
    """Print the message of an error to standard error; return its exit code."""
    typer.echo(f"Error: {error}", err=True)
    return error.exit_code


@contextmanager
def reported() -> Iterator[None]:
    """End the command with the message and exit code of a BaldroError or OSError, without a traceback."""
    try:
        yield
    except BaldroError as error:
        raise typer.Exit(report(error)) from None
    except OSError as error:
        raise typer.Exit(report(BaldroError(explained(error)))) from None


@contextmanager
def interruptible() -> Iterator[None]:
    """End the command with exit code 130 on Ctrl-C, SIGTERM and SIGHUP, so that the commands it runs end too.

    A signal that is ignored, as SIGHUP under nohup, stays ignored.
    """
    signals = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. What is finished is kept: the same command continues from here.", err=True)
        raise typer.Exit(130) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
