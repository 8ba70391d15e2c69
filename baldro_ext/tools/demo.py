"""The method at work in a few minutes: a small model of `baldro workspace` forgets by the methods of `baldro run`."""

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from tabulate import tabulate

from baldro_ext.tools import palette
from baldro_ext.tools.compare.evaluations import Evaluation, read_evaluation
from baldro_ext.tools.run import Method, Study

METHODS = tuple(Method(name, name) for name in ("NPO", "BalDRO_G", "BalDRO_DV", "BalDRO_DV_radius"))
PROBABILITY = "forget_Q_A_Prob"  # per token of a forgotten answer, between 0 and 1
_DECILE = 0.1
COLUMNS = {
    "probability": PROBABILITY,
    "worst decile": f"{PROBABILITY}.worst",
    "largest": f"{PROBABILITY}.largest",
    "extraction": "extraction_strength",
    "forget quality": "forget_quality",
    "model utility": "model_utility",
}


def study(seed: int) -> Study:
    """Return what the demo compares, in a folder of `baldro workspace tofu`."""
    common = ("learning_rate=2.5e-4", "gradient_accumulation_steps=1", "report_to=none")
    return Study(
        METHODS,
        seeds=(seed,),
        model="models/tofu_target",
        retain_model="models/tofu_retain90",
        hardware="cpu",
        common=tuple(f"trainer.args.{setting}" for setting in common),
    )


def evaluations(study: Study, folder: Path) -> dict[str, Evaluation]:
    """Return the evaluations: of the model before, by each method, and of the one that never knew."""
    tasks = {run.method.label if run.method else "before": run.task for run in study.runs}
    if study.retain:
        tasks["never knew"] = study.retain.task
    return {name: read_evaluation(folder / "saves" / "eval" / task) for name, task in tasks.items()}


def table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return what is left of the forgotten answers, and of the rest, one row per model."""
    rows = [[name, *map(it.values(_DECILE).get, COLUMNS.values())] for name, it in evaluations.items()]
    digits = ["", ".3f", ".3f", ".3f", ".3f", ".1e", ".3f"]  # forget quality is a p-value, often tiny
    return tabulate(rows, ["", *COLUMNS], tablefmt="plain", floatfmt=digits, missingval="-")


def picture(evaluations: Mapping[str, Evaluation]) -> bytes:
    """Return a PNG that shows how evenly each model forgot: one dot per forgotten answer, one row per model."""
    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    axes = figure.subplots()
    for row, (name, evaluation) in enumerate(evaluations.items()):
        values = evaluation.samples[PROBABILITY]
        colour, worst = palette.METHODS.get(name, palette.GREY), evaluation.values(_DECILE)[f"{PROBABILITY}.worst"]
        axes.plot([0, 1], [row, row], color="#e6e6e6", linewidth=1, zorder=0)
        axes.scatter(values, [row] * len(values), 46, colour, alpha=0.5, linewidths=0)
        axes.plot([worst, worst], [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
        axes.text(worst, row - 0.32, f"{worst:.2f}", ha="center", va="bottom", fontsize=9, color=colour)
    axes.set_yticks(range(len(evaluations)), list(evaluations))
    axes.set_ylim(len(evaluations) - 0.5, -0.75)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("probability of a forgotten answer, per token")
    axes.set_title("dot: a forgotten answer    bar: mean of the worst decile", loc="right", fontsize=9, color="#555555")
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()
