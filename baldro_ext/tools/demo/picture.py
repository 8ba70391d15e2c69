"""The picture at the end of the demo: one dot per forgotten answer, one row per model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from baldro_ext.balance import forget_balance
from baldro_ext.tools import palette


def draw(probabilities: Mapping[str, Sequence[float]]) -> bytes:
    """Return a PNG that shows how evenly each model forgot.

    Args:
        probabilities: Of the forgotten answers, by model, top to bottom.
    """
    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    axes = figure.subplots()
    for row, (name, values) in enumerate(probabilities.items()):
        colour, worst = palette.METHODS.get(name, palette.GREY), forget_balance(dict(enumerate(values))).worst_mean
        axes.plot([0, 1], [row, row], color="#e6e6e6", linewidth=1, zorder=0)
        axes.scatter(values, [row] * len(values), 46, colour, alpha=0.5, linewidths=0)
        axes.plot([worst, worst], [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
        axes.text(worst, row - 0.32, f"{worst:.2f}", ha="center", va="bottom", fontsize=9, color=colour)
    axes.set_yticks(range(len(probabilities)), list(probabilities))
    axes.set_ylim(len(probabilities) - 0.5, -0.75)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("probability of a forgotten answer, per token")
    axes.set_title("dot: a forgotten answer    bar: mean of the worst decile", loc="right", fontsize=9, color="#555555")
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=150)
    return image.getvalue()
