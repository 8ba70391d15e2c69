"""`baldro framework`: pinned checkouts of open-unlearning in the user's cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from baldro_ext.tools import framework
from baldro_ext.tools.cli.commands import Group
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
    source: Annotated[
        str,
        typer.Option(envvar="OPEN_UNLEARNING_REPO", help="Git URL or local clone to fetch the commits from."),
    ] = framework.DEFAULT_SOURCE,
) -> None:
    """Download the pinned checkouts into the cache.

    A checkout that is there is verified and not changed, so you can run this again at any time.

    \b
    Examples:
      baldro framework install
      baldro framework install G2 --source ~/open-unlearning
    """
    for gen in dict.fromkeys([framework.generation(name) for name in names or GENERATIONS]):
        path, new = framework.install(gen, source, notify=lambda message: typer.echo(message, err=True))
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
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with full commits.")] = False,
) -> None:
    """Show the generations and whether they are installed.

    The versions are those that the framework pins; G2 is the primary generation.

    \b
    Examples:
      baldro framework list
      baldro framework list --json
    """
    from tabulate import tabulate

    rows = [
        {**asdict(gen), "state": framework.state(gen), "path": str(framework.location(gen))}
        for gen in GENERATIONS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    shown = [row | {"commit": row["commit"][:7]} for row in rows]
    typer.echo(tabulate(shown, "keys", tablefmt="plain", disable_numparse=True))
    if rest := [row["name"] for row in rows if row["state"] == "missing"]:
        typer.echo(f"\nInstall the rest: baldro framework install {' '.join(rest)}", err=True)
