"""The `baldro` command: its modules parse and print; the work is done by the modules they call.

Exit codes
    0  done
    1  the machine does not allow it: git is not installed, a folder cannot be written, a command failed;
       or `doctor` found something that would fail
    2  wrong usage (command, option, generation, run), or `framework path` has no verified checkout to name
    3  the git source cannot be reached or lacks the pinned commit
    4  refused: what is there is not what the command made or knows, and stays as it is; or runs do not belong together
"""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from baldro_ext.tools.cli import bench, compare, demo, doctor, framework, run, upstream, workspace
from baldro_ext.tools.cli.commands import Group

# Plain text, so that help and errors look the same in a terminal, a log file and a pipe.
app = typer.Typer(
    name="baldro",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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

    Start with: baldro demo

    \b
    Exit codes
      0  done
      1  the machine does not allow it, or a command failed
      2  wrong usage, or nothing there to name
      3  the git source cannot be reached or lacks the pinned commit
      4  refused: what is there is not baldro's, and stays as it is
    """


app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(framework.app, name="framework")
app.add_typer(workspace.app, name="workspace")
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("bench")(bench.bench)
app.command("upstream")(upstream.upstream)
