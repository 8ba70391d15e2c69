"""`baldro doctor`: what is installed here, and what would go wrong."""

from pathlib import Path

import typer


def doctor() -> None:
    """Check this environment for known problems.

    Looks at versions, GPUs, the framework and its plugin, and at the current folder if it is a checkout of
    open-unlearning. "fails" marks what ends a command with an error, "note" what is good to know; where something
    fails, the exit code is 1.

    \b
    Example:
      baldro doctor
    """
    from tabulate import tabulate

    from baldro_ext.tools.doctor import inspect_environment, run_checks

    checks = list(run_checks(inspect_environment(Path.cwd(), notify=lambda message: typer.echo(message, err=True))))
    rows = [(it.level, it.subject, it.found + (f"\nFix: {it.fix}" if it.fix else "")) for it in checks]
    typer.echo(f"\n{tabulate(rows, tablefmt='plain', disable_numparse=True, maxcolwidths=[None, None, 90])}")
    if any(check.level == "fails" for check in checks):
        raise typer.Exit(1)
