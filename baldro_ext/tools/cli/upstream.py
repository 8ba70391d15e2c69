"""`baldro upstream`: the pull request to open-unlearning."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.reporting import reported


def upstream(
    checkout: Annotated[
        Path, typer.Argument(metavar="CHECKOUT", help="The root of a clean checkout of the framework.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the diff and change nothing.")] = False,
    description: Annotated[
        bool, typer.Option("--description", help="Print the text of the pull request and change nothing.")
    ] = False,
) -> None:
    """Make the pull request that brings BalDRO upstream.

    Writes it into a checkout of open-unlearning that is at a commit which `baldro framework list` names
    and has no changes. Nothing is committed or pushed. Running it again changes nothing.

    \b
    Examples:
      baldro upstream ~/open-unlearning
      baldro upstream ~/open-unlearning --dry-run
      baldro upstream ~/open-unlearning --description > pull_request.md

    \b
    Exit codes: 1 git missing or checkout not writable, 2 wrong usage, 4 refused: the checkout has
    other changes or is at an unknown commit.
    """
    from baldro_ext.tools import upstream
    from baldro_ext.tools.upstream.checkout import Checkout
    from baldro_ext.tools.upstream.description import describe

    with reported():
        found = Checkout.at(checkout.absolute())
        request = upstream.pull_request(found)
        if description:
            typer.echo(describe(found), nl=False)
            return
        there = found.holds(request.files)
        if dry_run:
            typer.echo(request.diff, nl=False)
            return
    if not there:
        try:
            request.write(found.folder)
        except OSError as error:
            typer.echo(f"Error: cannot write {error.filename}: {error.strerror}", err=True)
            raise typer.Exit(1) from None
    files, added, removed = request.size
    done = "holds the pull request already" if there else "now holds the pull request"
    here = shlex.quote(str(checkout))
    typer.echo(
        f"{checkout} {done}, on {found.base.name} ({found.base.commit[:7]}): "
        f"{files} files, {added} lines added, {removed} removed.\n"
        "Next:\n"
        f"  git -C {here} switch --create add-baldro\n"
        f"  make -C {here} quality    # pip install ruff==0.6.9\n"
        f"  git -C {here} add --all && git -C {here} commit -m 'Add BalDRO' && git -C {here} push -u origin add-baldro"
    )
