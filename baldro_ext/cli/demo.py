"""`baldro demo`: the method at work in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.cli.reporting import reported


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to work; made if missing, reused if not.")] = Path("demo"),
) -> None:
    """Show the method working, in minutes on two CPU cores.

    Makes a small language model that recites made-up authors, unlearns two of them with NPO, BalDRO-G and
    BalDRO-DV by the framework's own commands, and prints what is left of each. Running it again reuses
    what is done.

    \b
    Example:
      baldro demo
    """
    from baldro_ext import demo

    try:
        with reported():
            outcomes = demo.run(folder.absolute(), say=typer.echo)
    except OSError as error:
        typer.echo(f"Error: {error}\nChoose another folder: baldro demo FOLDER", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"\nWhat is left of the forgotten authors, and of the rest:\n\n{demo.table(outcomes)}\n")
    typer.echo(
        "Probability of the forgotten answers: the lower the better, and the worst decile says for whom it failed.\n"
        "Forget quality (a p-value) and model utility: the higher the better. retain90 never saw those authors.\n"
        f"Commands and their output: {folder / 'logs'}. Models and evaluations: {folder / 'saves'}."
    )
