"""`baldro framework`: pinned open-unlearning checkouts in the user's cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

import typer

from baldro_ext.errors import BaldroError
from baldro_ext.tools import framework
from baldro_ext.tools.cli.commands import Group
from baldro_ext.tools.cli.reporting import columns, report, reported
from baldro_ext.tools.framework import GENERATIONS, PRIMARY, Generation

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Pinned open-unlearning checkouts.

    open-unlearning is run from a source checkout: python src/train.py. This keeps one verified checkout
    per supported generation in the user's cache (BALDRO_CACHE replaces that folder).
    """


@app.command("install")
def install(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="G1, G2 or G3 in any case; default: all.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            envvar="OPEN_UNLEARNING_REPO",
            help=f"Git URL or local clone to take the commits from; default: {framework.DEFAULT_SOURCE}",
        ),
    ] = None,
) -> None:
    """Put pinned checkouts into the cache.

    What is there already is verified and not touched, so running this again is safe.

    \b
    Examples:
      baldro framework install
      baldro framework install G2 --source ~/open-unlearning

    \b
    Exit codes: 1 git missing or cache not writable, 2 unknown generation,
    3 source not reachable or without the commit, 4 refused, a checkout was modified.
    """
    known = _known(context)
    wanted = list(dict.fromkeys(_generation(name, known) for name in names or known))
    versions = [f"transformers {gen.transformers}" for gen in wanted]
    widths = (max(len(gen.name) for gen in wanted), 7, max(map(len, versions)), len("installed now"), 0)
    failures: list[int] = []
    for gen, version in zip(wanted, versions, strict=True):
        try:
            place, new = framework.install(gen, source, notify=lambda message: typer.echo(message, err=True))
        except BaldroError as error:
            failures.append(report(error))
        else:
            done = "installed now" if new else "already there"
            typer.echo(columns((gen.name, gen.commit[:7], version, done, str(place)), widths))
    if failures:
        raise typer.Exit(failures[0])


@app.command("path")
def path(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="G1, G2 or G3 in any case.")] = PRIMARY,
) -> None:
    """Print the folder of a verified checkout.

    \b
    Example:
      cd "$(baldro framework path G2)"

    \b
    Exit codes: 1 git missing, 2 unknown generation or no verified checkout
    (missing, modified or at another commit; standard error says what to do).
    """
    with reported():
        typer.echo(framework.checkout(_generation(name, _known(context))))


@app.command("list")
def list_(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with full commits.")] = False,
) -> None:
    """Show all generations and their state.

    The state is installed, missing, modified or wrong commit; versions are those the framework pins.

    \b
    Examples:
      baldro framework list
      baldro framework list --json
    """
    known = _known(context)
    with reported():
        found = {gen: framework.state(gen) for gen in known.values()}
    if as_json:
        typer.echo(json.dumps([_record(gen, state) for gen, state in found.items()], indent=2))
        return
    head = ("name", "commit", "transformers", "lm-eval", "origin", "state", "path")
    rows = [
        (gen.name, gen.commit[:7], gen.transformers, gen.lm_eval, gen.summary, state.kind, str(state.path))
        for gen, state in found.items()
    ]
    widths = tuple(max(map(len, column)) for column in zip(head, *rows, strict=True))
    for row in (head, *rows):
        typer.echo(columns(row, widths))
    if absent := [gen.name for gen, state in found.items() if state.kind == "missing"]:
        typer.echo(f"\nInstall what is missing with: baldro framework install {' '.join(absent)}", err=True)
    for gen, state in found.items():
        if state.kind in ("modified", "wrong commit"):
            typer.echo(f"\n{framework.explain(gen, state)}", err=True)


def _known(context: typer.Context) -> Mapping[str, Generation]:
    """Return the generations to serve: a caller in Python may hand over its own as `obj`."""
    return context.obj or GENERATIONS


def _generation(name: str, known: Mapping[str, Generation]) -> Generation:
    try:
        return framework.generation(name, known)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _record(gen: Generation, state: framework.State) -> dict[str, object]:
    return {
        "name": gen.name,
        "primary": gen.name == PRIMARY,
        "commit": gen.commit,
        "transformers": gen.transformers,
        "lm_eval": gen.lm_eval,
        "summary": gen.summary,
        "state": state.kind,
        "details": list(state.details),
        "path": str(state.path),
    }
