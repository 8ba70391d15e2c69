"""The command `baldro`. The modules here parse and print; the modules they call do the work.

They import what takes long (torch, pandas, matplotlib) inside the command that needs it, so that help is fast.
"""

from typing import Annotated

import typer

from baldro_ext.tools.cli import bench, compare, demo, doctor, framework, memory, run, upstream, workspace
from baldro_ext.tools.cli.shared import Group
from baldro_ext.tools.framework import installed

# Plain text: help and errors look the same in a terminal, a log file and a pipe.
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
        typer.echo(f"baldro-ext {installed('baldro-ext') or '(run from source, not installed)'}")
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
    Exit codes of all commands
      0  done
      1  the environment is not usable (git missing, folder not writable), a file is broken, or a command failed
      2  wrong usage: no such command, option, run, metric or checkout
      3  the git source or the pretrained model cannot be reached, or is not the pinned one
      4  refused: existing files were not made by baldro and were not changed, or runs cannot be compared
      130  interrupted; the same command continues where it stopped
    """


app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.add_typer(framework.app, name="framework")
app.add_typer(workspace.app, name="workspace")
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("bench")(bench.bench)
app.command("memory")(memory.memory)
app.command("upstream")(upstream.upstream)
