"""`baldro upstream`: the pull request to open-unlearning."""

import shlex
from pathlib import Path
from typing import Annotated

import typer


def upstream(
    checkout: Annotated[
        Path, typer.Argument(metavar="CHECKOUT", help="The root of a clean checkout of the framework.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the diff and change nothing.")] = False,
    description: Annotated[
        bool, typer.Option("--description", help="Print the text of the pull request and change nothing.")
    ] = False,
) -> None:
    """Write the pull request that brings BalDRO into open-unlearning.

    CHECKOUT is a clone at the commit that `baldro framework list` shows as G2, without changes of your
    own. Nothing is committed or pushed. Running it again changes nothing.

    \b
    Examples:
      baldro upstream ~/open-unlearning
      baldro upstream ~/open-unlearning --dry-run
      baldro upstream ~/open-unlearning --description > pull_request.md
    """
    from baldro_ext.tools.upstream import BASE, DESCRIPTION, PullRequest

    request = PullRequest.for_checkout(checkout.absolute())
    if description:
        typer.echo(DESCRIPTION.read_text(encoding="utf-8"), nl=False)
        return
    applied = request.is_applied()
    if dry_run:
        typer.echo(request.diff(), nl=False)
        return
    if not applied:
        request.write()
    place = shlex.quote(str(checkout))
    typer.echo(f"""\
{checkout} {"already has" if applied else "now has"} the pull request, on {BASE.name} ({BASE.commit[:7]}): \
{request.diff("--shortstat").strip()}.
Next:
  git -C {place} switch --create add-baldro
  make -C {place} quality    # pip install ruff==0.6.9
  git -C {place} add --all && git -C {place} commit -m 'Add BalDRO' && git -C {place} push -u origin add-baldro""")
