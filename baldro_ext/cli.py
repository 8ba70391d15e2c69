"""The `baldro` command: it parses and prints; the work is done by the modules it calls.

Exit codes
    0  done
    1  the machine does not allow it: git is not installed, the cache cannot be written
    2  wrong usage (command, option, generation), or `framework path` has no verified checkout to name
    3  the git source cannot be reached or lacks the pinned commit
    4  refused: a checkout was modified or is at another commit, and stays as it is
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext import framework
from baldro_ext.errors import BaldroError
from baldro_ext.framework import GENERATIONS, PRIMARY, Generation

# Plain text, so that help and errors look the same in a terminal, a log file and a pipe.
app = typer.Typer(
    name="baldro",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
framework_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(framework_app, name="framework")

_EXIT_CODES: dict[type[BaldroError], int] = {
    framework.FrameworkMissingError: 2,
    framework.SourceError: 3,
    framework.FrameworkModifiedError: 4,
}


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"baldro-ext {metadata.version('baldro-ext')}")
        except metadata.PackageNotFoundError:
            typer.echo("baldro-ext (run from source, not installed)")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """BalDRO: distributionally robust unlearning of language models with open-unlearning.

    Start with: baldro framework install
    """


@app.command("demo")
def demo_command(
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
        outcomes = demo.run(folder.absolute(), say=typer.echo)
    except BaldroError as error:
        raise typer.Exit(_report(error)) from None
    except OSError as error:
        typer.echo(f"Error: {error}\nChoose another folder: baldro demo FOLDER", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"\nWhat is left of the forgotten authors, and of the rest:\n\n{demo.table(outcomes)}\n")
    typer.echo(
        "Probability of the forgotten answers: the lower the better, and the worst decile says for whom it failed.\n"
        "Forget quality (a p-value) and model utility: the higher the better. retain90 never saw those authors.\n"
        f"Commands and their output: {folder / 'logs'}. Models and evaluations: {folder / 'saves'}."
    )


@framework_app.callback()
def framework_main() -> None:
    """Pinned open-unlearning checkouts.

    open-unlearning is run from a source checkout: python src/train.py. This keeps one verified checkout
    per supported generation in the user's cache (BALDRO_CACHE replaces that folder).
    """


@framework_app.command("install")
def framework_install(
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
            path, new = framework.install(gen, source, notify=lambda message: typer.echo(message, err=True))
        except BaldroError as error:
            failures.append(_report(error))
        else:
            done = "installed now" if new else "already there"
            typer.echo(_columns((gen.name, gen.commit[:7], version, done, str(path)), widths))
    if failures:
        raise typer.Exit(failures[0])


@framework_app.command("path")
def framework_path(
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
    try:
        typer.echo(framework.checkout(_generation(name, _known(context))))
    except BaldroError as error:
        raise typer.Exit(_report(error)) from None


@framework_app.command("list")
def framework_list(
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
    try:
        found = {gen: framework.state(gen) for gen in known.values()}
    except BaldroError as error:
        raise typer.Exit(_report(error)) from None
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
        typer.echo(_columns(row, widths))
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


def _report(error: BaldroError) -> int:
    typer.echo(f"Error: {error}", err=True)
    return _EXIT_CODES.get(type(error), 1)


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


def _columns(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


if __name__ == "__main__":
    app()
