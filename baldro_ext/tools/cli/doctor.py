"""`baldro doctor`: what is installed here, and what would go wrong."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the environment and the checks.")] = False,
) -> None:
    """Check this environment for known problems.

    Looks at versions, GPUs, the framework and its plugin, and at the current folder if it is a checkout of
    open-unlearning. "fails" marks what ends a command with an error, "note" what is good to know; where something
    fails, the exit code is 1.

    \b
    Examples:
      baldro doctor
      baldro doctor --json
    """
    from tabulate import tabulate

    from baldro_ext.tools.doctor import inspect_environment, run_checks

    here = inspect_environment(Path.cwd(), notify=lambda message: typer.echo(message, err=True))
    typer.echo(err=True)
    checks = list(run_checks(here))
    if as_json:
        record = {"environment": asdict(here), "checks": [asdict(check) for check in checks]}
        typer.echo(json.dumps(record, indent=2))
    else:
        rows = [(it.level, it.subject, it.found + (f"\nFix: {it.fix}" if it.fix else "")) for it in checks]
        typer.echo(tabulate(rows, tablefmt="plain", disable_numparse=True, maxcolwidths=[None, None, 90]))
    if any(check.level == "fails" for check in checks):
        raise typer.Exit(1)
