"""`baldro doctor`: what is installed here, and what would go wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.reporting import reported


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the environment and the checks.")] = False,
) -> None:
    """Check this environment for known problems.

    Looks at versions, GPUs, the framework and its plugin, and at the current folder if it is a checkout of
    open-unlearning. "fails" marks what ends a command with an error, "note" what is good to know.

    \b
    Examples:
      baldro doctor
      baldro doctor --json

    \b
    Exit codes: 0 nothing fails, 1 something would.
    """
    from baldro_ext.tools.doctor import inspect_environment, run_checks

    with reported():
        here = inspect_environment(Path.cwd(), notify=lambda message: typer.echo(message, err=True))
    typer.echo(err=True)
    checks = list(run_checks(here))
    if as_json:
        record = {"environment": asdict(here), "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(record, indent=2))
    else:
        from tabulate import tabulate

        rows = [
            (check.level, check.subject, check.found + (f"\nFix: {check.fix}" if check.fix else "")) for check in checks
        ]
        typer.echo(tabulate(rows, tablefmt="plain", disable_numparse=True, maxcolwidths=[None, None, 90]))
    if any(check.level == "fails" for check in checks):
        raise typer.Exit(1)
