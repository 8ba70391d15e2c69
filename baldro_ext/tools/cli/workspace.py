"""`baldro workspace`: folders in which the framework's commands run offline, on made-up data and small models."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.tools.cli.commands import Group
from baldro_ext.tools.cli.reporting import reported

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)

# Small models need a higher rate and more steps than the framework's defaults for large ones.
_SMALL = ("trainer.args.learning_rate=2.5e-4", "trainer.args.gradient_accumulation_steps=1")
_NEXT = """\
Made-up data and small models are in {folder}. Next:

  cd {folder}{path}
  export OMP_NUM_THREADS=1  # more threads would only wait for each other in such small models

  # evaluate the model that never saw the authors to forget; forget quality compares with it
  python src/eval.py experiment=eval/tofu/default +hardware=cpu_eval \
task_name=tofu_Llama-3.2-1B-Instruct_retain90 \
model.model_args.pretrained_model_name_or_path=open-unlearning/tofu_Llama-3.2-1B-Instruct_retain90

  # unlearn, and evaluate at the end of each epoch; a minute or two
  python src/train.py trainer=BalDRO_DV_radius experiment=unlearn/tofu +hardware=cpu {small}

  # or unlearn with and without BalDRO, evaluate, and compare
  baldro run NPO BalDRO_DV_radius --hardware cpu --model models/tofu_target --retain-model models/tofu_retain90 \
{options}
  baldro compare saves/eval/before saves/eval/NPO_seed* saves/eval/BalDRO_DV_radius_seed*"""


@app.callback()
def main() -> None:
    """Folders in which the framework's commands run offline.

    They hold made-up data and small models under the names that the framework loads. A command for the real benchmark
    runs there unchanged; without a GPU, add +hardware=cpu (src/train.py) or +hardware=cpu_eval (src/eval.py).
    """


@app.command("tofu")
def tofu(
    folder: Annotated[Path, typer.Argument(help="Made if missing; running it again fills in what is missing.")],
    framework: Annotated[
        str, typer.Option(help="Generation that src and configs link to, if it is installed: G1, G2 or G3.")
    ] = "G2",
) -> None:
    """Made-up authors, and models that do and do not know them.

    24 authors with 10 questions each; a model that has memorised them all, and one that never saw the last four.
    Takes about two minutes on a CPU.

    \b
    Example:
      baldro workspace tofu toy

    \b
    Exit codes: 1 not writable, 2 unknown generation, 4 refused, the folder holds something else.
    """
    from baldro_ext.tools import framework as checkouts
    from baldro_ext.tools.workspace import lay_out

    try:
        generation = checkouts.generation(framework)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    # More threads would only wait for each other in such small models; read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    missing, checkout = "", None
    with reported():
        try:
            checkout = checkouts.checkout(generation)
        except checkouts.FrameworkError as error:
            missing = str(error)
        lay_out(folder.absolute(), checkout)
    if missing and not (folder / "src").exists():
        typer.echo(f"{missing}\nThen run this command again: python src/train.py needs it.", err=True)
    typer.echo(
        _NEXT.format(
            folder=shlex.quote(str(folder)),
            path=_path(),
            small=" ".join(_SMALL),
            options=" ".join(f"--set {word}" for word in _SMALL),
        )
    )


def _path() -> str:
    """Return a line that makes `python` and `baldro` those of this environment, if they are not."""
    programs = Path(sys.executable).parent
    found = shutil.which("python"), shutil.which("baldro")
    if all(place and Path(place).parent == programs for place in found):
        return ""
    return f"\n  export PATH={shlex.quote(str(programs))}:$PATH"
