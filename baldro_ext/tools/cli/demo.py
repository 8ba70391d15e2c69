"""`baldro demo`: the method at work in minutes."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli import run
from baldro_ext.tools.cli.shared import program, quiet

_RESULT = """
This is one seed, and numbers differ between machines. Over six seeds, BalDRO_DV_radius left less of the worst decile
than NPO in all six, BalDRO_DV in four, BalDRO_G in three; forget quality favours no method (docs/results.md).

What is left of the forgotten authors, and of the rest:

{table}

Probability, worst decile, largest and extraction are of the forgotten answers: the lower the better.
Forget quality (a p-value) and model utility: the higher the better. "never knew" was trained without those authors.
Picture: {folder}/demo.png. Commands and their output: {folder}/logs. Models and evaluations: {folder}/saves.
Next: {program} compare {saves}  # these runs side by side: tables, pictures and a report
      {program} workspace tofu toy  # makes such data and models in a folder, and says what to type there"""


def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to work; made if missing, reused if not.")
    ] = Path("demo"),
    seed: Annotated[
        int,
        typer.Option(min=0, max=2**32 - 1, help="Of the models, and of unlearning. Another seed needs another folder."),
    ] = 0,
) -> None:
    """Show the method working, in minutes on two CPU cores.

    Makes a small language model that has memorised made-up authors, unlearns four of them with NPO and three variants
    of BalDRO by open-unlearning's own commands, and prints and draws what is left of each answer. It is what
    `baldro workspace tofu` and `baldro run` do; running it again reuses what is finished.

    \b
    Examples:
      baldro demo
      baldro demo another --seed 1
    """
    from baldro_ext.tools import demo, files, framework
    from baldro_ext.tools.commands import Runner

    place, study = folder.absolute(), demo.study(seed)
    generation = framework.made_for()
    framework.check_packages()
    checkout, _ = framework.install(generation, notify=typer.echo)
    typer.echo(f"Working in {folder}, with open-unlearning in {checkout}")
    typer.echo("1/2  Making 24 authors, a model that has memorised them all, and one that never knew the last four")
    with quiet():
        from baldro_ext.tools.workspace import lay_out
    lay_out(place, checkout, seed)
    typer.echo("2/2  Unlearning those four, two commands at a time")
    # One thread each: two such small models at a time are faster than one on two cores.
    runner = Runner(place, checkout, [{"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}] * 2)
    run.carry_out(study, runner)
    found = demo.evaluations(study, place)
    files.write(place, {"demo.png": demo.picture(found)})
    typer.echo(
        _RESULT.format(table=demo.table(found), folder=folder, saves=shlex.quote(f"{folder}/saves"), program=program())
    )
