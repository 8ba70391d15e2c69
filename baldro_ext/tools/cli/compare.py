"""`baldro compare`: put runs side by side."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.commands import numbers
from baldro_ext.tools.cli.reporting import reported


def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Folders of trainings or evaluations, folders that contain them, or patterns."
        ),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Method to compare with, or 'base': each BalDRO method with the plain trainer of its forget loss. "
            "Default: NPO, else the first that is not BalDRO."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the report.")] = Path("comparison"),
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Metric to show, repeatable; with .worst or .largest of its samples."),
    ] = None,
    worst_share: Annotated[float, typer.Option(help="Share of the samples that counts as worst.")] = 0.1,
    levels: Annotated[
        str, typer.Option(metavar="X,X", help="Compare at equal utility, at these levels; 'auto' chooses some.")
    ] = "",
    utility: Annotated[str | None, typer.Option(help="With --levels, what is equal; default: model_utility.")] = None,
    left: Annotated[
        str | None, typer.Option(help="With --levels, what is compared; default: forget_Q_A_Prob.worst.")
    ] = None,
    allow_mixed: Annotated[
        bool,
        typer.Option("--allow-mixed", help="Compare even runs of different splits, models or retain logs."),
    ] = False,
    published: Annotated[
        Path | None,
        typer.Option(help="CSV file with numbers of others to show below: method, metric, value[, seed, source]."),
    ] = None,
) -> None:
    """Put finished runs side by side: table, pictures, report.

    Reads what the framework's train.py and eval.py and `baldro run` wrote, groups runs that differ in the seed alone,
    and compares each method with a baseline; with --levels also at equal utility, over all learning rates and epochs.
    Writes comparison.{md,csv,tex,json}, the pictures and report.html into a folder. Nothing in the runs is changed.

    \b
    Examples:
      baldro compare saves
      baldro compare 'saves/unlearn/*_BalDRO_*' saves/unlearn/NPO --baseline NPO --out report
      baldro compare saves --metric forget_Q_A_Prob.worst --metric model_utility --worst-share 0.05
      baldro compare saves --levels 0.4,0.5 --left extraction_strength

    \b
    Exit codes: 1 a file of a run is broken or the folder cannot be written, 2 no such run, metric or baseline,
    4 refused: the runs cannot be compared, or files that baldro did not make are in the way.
    """
    # Imported here, so that the other commands do not wait for pandas and matplotlib.
    from baldro_ext.tools.compare import compare, save
    from baldro_ext.tools.compare.formatting import text

    with reported():
        asked = bool(levels or utility or left)
        at = numbers(levels.replace("auto", ""), "--levels", float) if asked else None
        comparison = compare(runs, baseline, metric or (), worst_share, allow_mixed, published, at, utility, left)
        typer.echo(text(comparison, shutil.get_terminal_size((120, 24)).columns))
        save(comparison, out, command=shlex.join(["baldro", *sys.argv[1:]]))
    typer.echo(f"\nReport: {out / 'report.html'}")
