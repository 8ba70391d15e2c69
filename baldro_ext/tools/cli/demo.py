"""`baldro demo`: the method at work in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.reporting import interruptible, reported

_FORGOTTEN = """\
BalDRO_DV_radius is BalDRO_DV with dv_radius=0.5 instead of dv_beta=2.0.
Probability of the forgotten answers: the lower the better, and the worst decile says for whom it failed."""
_BY_FRAMEWORK = """\
Forget quality (a p-value) and model utility: the higher the better. retain90 never saw those authors.
Commands and their output: {folder}/logs. Models and evaluations: {folder}/saves."""
_PLAIN = """\
Retained answers: their mean probability, the higher the better. retain90 never saw the forgotten authors.
Measured by this package alone: forget quality and model utility need open-unlearning.
To have it, name a clone: OPEN_UNLEARNING_REPO=/path/to/clone baldro demo {folder}
What it needs besides is told by: baldro doctor"""


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to work; made if missing, reused if not.")] = Path("demo"),
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Of the models, and of unlearning. Another seed needs another folder."),
    ] = 0,
) -> None:
    """Show the method working, in minutes on two CPU cores.

    Makes a small language model that recites made-up authors, unlearns four of them with NPO, BalDRO-G and
    BalDRO-DV, and prints and draws what is left of each answer. Open-unlearning's own commands do it; where the
    framework cannot be had, a plain transformers.Trainer. Running it again reuses what is done.

    \b
    Examples:
      baldro demo
      baldro demo another --seed 1

    \b
    Exit codes: 1 a folder cannot be written or a command failed, 4 refused, the folder holds something else,
    130 interrupted.
    """
    from baldro_ext.tools import demo
    from baldro_ext.tools.demo.outcome import table

    try:
        with reported(), interruptible():
            result = demo.run(folder.absolute(), seed, say=typer.echo)
    except OSError as error:
        typer.echo(f"Error: {error}\nChoose another folder: baldro demo FOLDER", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"\nWhat is left of the forgotten authors, and of the rest:\n\n{table(result.outcomes)}\n")
    typer.echo(_FORGOTTEN)
    typer.echo((_BY_FRAMEWORK if result.by_framework else _PLAIN).format(folder=folder))
    typer.echo(f"The picture of it: {folder / result.picture.name}")
