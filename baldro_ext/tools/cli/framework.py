"""`baldro framework`: pinned checkouts of open-unlearning in the user's cache."""

from typing import Annotated

import typer

from baldro_ext.tools import framework
from baldro_ext.tools.cli.shared import Group
from baldro_ext.tools.framework import GENERATIONS, PRIMARY

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Checkouts of open-unlearning, pinned and verified.

    open-unlearning is run from a source checkout: python src/train.py. These commands keep one checkout of each
    supported version (generation) in your cache folder. The environment variable BALDRO_CACHE replaces that folder.
    """


@app.command("install")
def install(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="G1, G2 or G3; default: all.")] = None,
) -> None:
    """Download the pinned checkouts into the cache.

    A checkout that is there is verified and not changed, so you can run this again at any time. The environment
    variable OPEN_UNLEARNING_REPO names a git URL or a local clone to fetch the commits from, instead of github.com.

    \b
    Examples:
      baldro framework install
      OPEN_UNLEARNING_REPO=~/open-unlearning baldro framework install G2
    """
    for gen in dict.fromkeys([framework.generation(name) for name in names or GENERATIONS]):
        path, new = framework.install(gen, notify=lambda message: typer.echo(message, err=True))
        done = "installed now" if new else "already there"
        typer.echo(f"{gen.name}  {gen.commit[:7]}  transformers {gen.transformers:6}  {done}  {path}")


@app.command("path")
def path(name: Annotated[str, typer.Argument(metavar="NAME", help="G1, G2 or G3.")] = PRIMARY) -> None:
    """Print the folder of a checkout.

    \b
    Example:
      cd "$(baldro framework path G2)"
    """
    typer.echo(framework.checkout(framework.generation(name)))


@app.command("list")
def list_() -> None:
    """Show the generations and whether they are installed.

    The versions are those that the framework pins; G2 is the primary generation.

    \b
    Example:
      baldro framework list
    """
    from tabulate import tabulate

    states = {gen: framework.state(gen) for gen in GENERATIONS.values()}
    rows = [
        (gen.name, gen.commit[:7], gen.transformers, gen.lm_eval, gen.origin, state, framework.location(gen))
        for gen, state in states.items()
    ]
    head = ("name", "commit", "transformers", "lm-eval", "origin", "state", "path")
    typer.echo(tabulate(rows, head, tablefmt="plain", disable_numparse=True))
    if rest := [gen.name for gen, state in states.items() if state == "missing"]:
        typer.echo(f"\nInstall the rest: baldro framework install {' '.join(rest)}", err=True)
