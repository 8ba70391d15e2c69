"""`baldro workspace`: folders in which the framework's commands run offline, on made-up data and small models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.commands import Group
from baldro_ext.tools.cli.reporting import reported

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(help="Made if missing; running it again fills in what is missing.")]
Source = Annotated[
    str,
    typer.Option("--framework", help="Generation that src and configs link to, if it is installed: G1, G2 or G3."),
]


@app.callback()
def main() -> None:
    """Folders in which the framework's commands run offline.

    Made-up data, and small models that know it, stand under the names that the framework loads. A command for
    the real benchmark runs there as it is, and without a GPU with +hardware=cpu (train) or +hardware=cpu_eval.
    """


@app.command("tofu")
def tofu(folder: Folder, framework: Source = "G2") -> None:
    """Made-up authors, and models that do and do not know them.

    24 authors with 10 questions each; a model that recites them all, and one that never saw the last four.

    \b
    Example:
      baldro workspace tofu toy

    \b
    Exit codes: 1 not writable, 2 unknown generation, 4 refused, the folder holds something else.
    """
    _make("tofu", folder, framework)


@app.command("muse")
def muse(folder: Folder, framework: Source = "G2") -> None:
    """Made-up town news, and models that do and do not know it.

    8 texts with 6 questions each; a model that recites them all, and one that never saw the 4 to forget.

    \b
    Example:
      baldro workspace muse toy

    \b
    Exit codes: 1 not writable, 2 unknown generation, 4 refused, the folder holds something else.
    """
    _make("muse", folder, framework)


@app.command("wmdp")
def wmdp(folder: Folder, framework: Source = "G2") -> None:
    """Made-up manuals on harmless crafts, and a random model.

    Also multiple-choice questions for lm-eval, as its task arc_easy.

    \b
    Example:
      baldro workspace wmdp toy

    \b
    Exit codes: 1 not writable, 2 unknown generation, 4 refused, the folder holds something else.
    """
    _make("wmdp", folder, framework)


def _make(name: str, folder: Path, framework: str) -> None:
    from baldro_ext.tools import framework as checkouts
    from baldro_ext.tools.workspace.benchmarks import BENCHMARKS, lay_out

    try:
        generation = checkouts.generation(framework)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    benchmark, missing, checkout = BENCHMARKS[name], "", None
    with reported():
        try:
            checkout = checkouts.checkout(generation)
        except checkouts.FrameworkError as error:
            missing = str(error)
        lay_out(benchmark, folder.absolute(), checkout)
    if missing and not (folder / "src").exists():
        typer.echo(f"{missing}\nThen run this command again, for python src/train.py needs it.", err=True)
    typer.echo(f"Made-up data and small models are in {folder}. Next:\n\n  cd {folder}")
    for purpose, command in benchmark.commands:
        typer.echo(f"\n  # {purpose}\n  {command}")
