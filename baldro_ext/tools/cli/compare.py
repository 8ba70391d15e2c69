"""`baldro compare`: put runs side by side."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.shared import numbers


def compare(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Folders of runs, folders that contain them, or patterns.")
    ],
    baseline: Annotated[
        str, typer.Option(help="A method, or 'base': the plain trainer of each one's forget loss; default: NPO.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder for tables, pictures and the report.")] = Path("comparison"),
    metric: Annotated[list[str] | None, typer.Option(help="Metric, or NAME.worst, NAME.largest; repeatable.")] = None,
    worst_share: Annotated[float, typer.Option(help="Share of the samples that counts as worst.")] = 0.1,
    levels: Annotated[str, typer.Option(metavar="X,X", help="Compare at these levels of the utility, or 'auto'.")] = "",
    utility: Annotated[str, typer.Option(help="With --levels, what is equal; default: model_utility.")] = "",
    left: Annotated[str, typer.Option(help="With --levels, what is compared; default: forget_Q_A_Prob.worst.")] = "",
    allow_mixed: Annotated[
        bool, typer.Option("--allow-mixed", help="Compare even runs of different splits, models or retain logs.")
    ] = False,
    published: Annotated[Path | None, typer.Option(help="CSV: method, metric, value[, seed, source].")] = None,
) -> None:
    """Put finished runs side by side: table, pictures, report.

    Reads what the framework's train.py and eval.py and `baldro run` wrote, groups runs that differ in the seed alone,
    and compares each method with a baseline; with --levels also at equal utility, over all learning rates and epochs.
    --published adds numbers of others below. Writes comparison.{md,csv,tex}, summary.csv, the pictures and report.html
    into a folder. Nothing in the runs is changed.

    \b
    Examples:
      baldro compare saves
      baldro compare 'saves/unlearn/*_BalDRO_*' saves/unlearn/NPO --baseline NPO --out report
      baldro compare saves --metric forget_Q_A_Prob.worst --metric model_utility --worst-share 0.05
      baldro compare saves --levels 0.4,0.5 --left extraction_strength
    """
    from baldro_ext.tools.compare import compare, save
    from baldro_ext.tools.compare.formatting import text

    at = numbers(levels.replace("auto", ""), "--levels", float) if levels or utility or left else None
    comparison = compare(runs, baseline, metric or (), worst_share, allow_mixed, published, at, utility, left)
    typer.echo(text(comparison, shutil.get_terminal_size((120, 24)).columns))
    save(comparison, out, command=shlex.join(["baldro", *sys.argv[1:]]))
    typer.echo(f"\nReport: {out / 'report.html'}")
