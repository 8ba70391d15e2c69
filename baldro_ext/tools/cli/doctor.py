"""`baldro doctor`: what is installed here, and what would go wrong."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.reporting import reported


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: what was seen, and the findings.")] = False,
) -> None:
    """Show what is installed, and what would go wrong.

    Looks at versions, GPUs, the framework and its plugin in the environment it runs in, and at the current
    folder if that is a checkout of open-unlearning. `fails` marks what ends a command with an error, `note` what
    to know; below is the cure.

    \b
    Examples:
      baldro doctor
      baldro doctor --json

    \b
    Exit codes: 0 nothing fails, 1 something would.
    """
    from baldro_ext.tools.doctor import diagnose, look_around

    with reported():
        seen = look_around(Path.cwd())
    findings = diagnose(seen)
    if as_json:
        record = {"seen": dataclasses.asdict(seen), "findings": [dataclasses.asdict(finding) for finding in findings]}
        typer.echo(json.dumps(record, indent=2, default=str))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            typer.echo(_wrapped(f"{finding.level:5}  {finding.subject:{width}}  ", finding.what))
            if finding.cure:
                typer.echo(_wrapped(f"{'':{width + 7}}  ", finding.cure))
    if any(finding.level == "fails" for finding in findings):
        raise typer.Exit(1)


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(text, 120, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)
