"""The picture at the end of the demo: one dot per forgotten answer, one row per model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from baldro_ext.tools.demo.outcome import Outcome

# Of the Okabe-Ito palette, which colour-blind people can tell apart; models that were not unlearnt are grey.
_COLOURS = {"NPO": "#D55E00", "BalDRO_G": "#0072B2", "BalDRO_DV": "#009E73", "BalDRO_DV_radius": "#009E73"}
_GREY = "#7f7f7f"
_LABELS = {"target": "before", "BalDRO_DV_radius": "BalDRO_DV\nby radius", "retain90": "never knew"}


def draw(outcomes: Sequence[Outcome], path: Path) -> Path:
    """Draw how evenly each model forgot.

    Args:
        outcomes: Top to bottom.
        path: Of the PNG to write.

    Returns:
        `path`.
    """
    # Without pyplot: no window system, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row, outcome in enumerate(outcomes):
        colour = _COLOURS.get(outcome.name, _GREY)
        axes.plot([0, 1], [row, row], color="#e6e6e6", linewidth=1, zorder=0)
        axes.scatter(outcome.probabilities, [row] * len(outcome.probabilities), 46, colour, alpha=0.5, linewidths=0)
        worst = outcome.worst_decile
        axes.plot([worst, worst], [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
        axes.annotate(
            f"{worst:.2f}",
            (worst, row - 0.32),
            ha="center",
            va="bottom",
            fontsize=9,
            color=colour,
            annotation_clip=False,
        )
    axes.set_yticks(range(len(outcomes)), [_LABELS.get(outcome.name, outcome.name) for outcome in outcomes])
    axes.set_ylim(len(outcomes) - 0.5, -0.75)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("probability of a forgotten answer, per token")
    axes.set_title("dot: a forgotten answer    bar: mean of the worst decile", loc="right", fontsize=9, color="#555555")
    axes.tick_params(axis="y", length=0, labelsize=11)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=150)
    return path
