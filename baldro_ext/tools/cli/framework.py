"""`baldro framework`: pinned checkouts of open-unlearning in the user's cache."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from baldro_ext.errors import BaldroError
from baldro_ext.tools import framework
from baldro_ext.tools.cli.commands import Group
from baldro_ext.tools.cli.reporting import report, reported
from baldro_ext.tools.framework import GENERATIONS, PRIMARY, Generation

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


def _generation(name: str) -> Generation:
    try:
        return framework.generation(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


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
        str | None,
        typer.Option(
            envvar="OPEN_UNLEARNING_REPO",
            help=f"Git URL or local clone to fetch the commits from; default: {framework.DEFAULT_SOURCE}",
        ),
    ] = None,
) -> None:
    """Download the pinned checkouts into the cache.

    A checkout that is there is verified and not changed, so you can run this again at any time.

    \b
    Examples:
      baldro framework install
      baldro framework install G2 --source ~/open-unlearning
    """
    failures = []
    for gen in dict.fromkeys([_generation(name) for name in names or GENERATIONS]):
        try:
            path, new = framework.install(gen, source, notify=lambda message: typer.echo(message, err=True))
        except BaldroError as error:
            failures.append(report(error))
        else:
            done = "installed now" if new else "already there"
            typer.echo(f"{gen.name}  {gen.commit[:7]}  transformers {gen.transformers:6}  {done}  {path}")
    if failures:
        raise typer.Exit(failures[0])


@app.command("path")
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="G1, G2 or G3.")] = PRIMARY,
) -> None:
    """Print the folder of a checkout.

    \b
    Example:
      cd "$(baldro framework path G2)"
    """
    with reported():
        typer.echo(framework.checkout(_generation(name)))


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with full commits.")] = False,
) -> None:
    """Show the generations and whether they are installed.

    The state is installed, missing or modified; the versions are those that the framework pins.

    \b
    Examples:
      baldro framework list
      baldro framework list --json
    """
    with reported():
        states = {gen: framework.state(gen) for gen in GENERATIONS.values()}
    if as_json:
        records = [
            {
                **asdict(gen),
                "primary": gen.name == PRIMARY,
                "state": here.kind,
                "details": here.details,
                "path": here.path,
            }
            for gen, here in states.items()
        ]
        typer.echo(json.dumps(records, indent=2, default=str))
        return
    from tabulate import tabulate

    rows = [
        (gen.name, gen.commit[:7], gen.transformers, gen.lm_eval, gen.summary, here.kind, here.path)
        for gen, here in states.items()
    ]
    head = ("name", "commit", "transformers", "lm-eval", "origin", "state", "path")
    typer.echo(tabulate(rows, head, tablefmt="plain", disable_numparse=True))
    if rest := [gen.name for gen, here in states.items() if here.kind != "installed"]:
        typer.echo(f"\nInstall the rest, or see what was modified: baldro framework install {' '.join(rest)}", err=True)
