"""Forgetting against what the model can still do: methods, their seeds, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.metrics import Metric, metric
from baldro_ext.tools.compare.plots.style import GREY, Look, arranged, legend_below, panels, single
from baldro_ext.tools.compare.statistics import spread

UTILITIES = ("model_utility", "retain_knowmem_ROUGE")
REMAINDERS = ("forget_Q_A_Prob.worst", "forget_verbmem_ROUGE.worst", "extraction_strength.worst")
NO_METHOD_FORGETS = 1e-10
"""Where every p-value of forget quality is below this, it ranks degrees of hopelessness."""
_Point = tuple[float, float]


def forget_quality(found: Comparison) -> Figure | str:
    """Draw forget quality on a logarithmic axis; a reason where it has nothing to say."""
    values = [
        v for one in found.groups for run in one.runs if (v := found.value(run, metric("forget_quality"))) is not None
    ]
    if not values:
        return "no run has a forget_quality: it needs retain_logs_path and TOFU"
    if max(values) < NO_METHOD_FORGETS:
        return (
            f"forget quality is degenerate here: the largest of {len(values)} p-values is {max(values):.1g}, so "
            "that no method comes near the retain model and their order means little"
        )
    return _draw(found, "forget_quality")


def remainder(found: Comparison) -> Figure | str:
    """Draw what is left in the worst samples."""
    known = [key for key in REMAINDERS if _points(found, key)]
    return _draw(found, known[0]) if known else "no run has values of single samples together with a utility"


def pareto(points: Sequence[_Point], better: tuple[int, int]) -> list[_Point]:
    """Return the points that no other is at least as good as in both coordinates, by the first coordinate.

    Args:
        points: In the plane.
        better: +1 where larger is better, -1 where smaller is, by coordinate.
    """

    def beats(a: _Point, b: _Point) -> bool:
        gains = [sign * (x - y) for sign, x, y in zip(better, a, b, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    return sorted({b for b in points if not any(beats(a, b) for a in points)})


def _points(found: Comparison, key: str) -> dict[str, list[_Point]]:
    """Return (utility, value) of each seed that has both, by method."""
    utility = _utility(found)
    if utility is None:
        return {}
    column, points = metric(key), {}
    for one in found.groups:
        pairs = [(found.value(run, utility), found.value(run, column)) for run in one.runs]
        both = [(x, column.scaled(y)) for x, y in pairs if x is not None and y is not None]
        if finite := [point for point in both if math.isfinite(point[1])]:
            points[one.label] = finite
    return points


def _utility(found: Comparison) -> Metric | None:
    have = {key for one in found.groups for run in one.runs for key in run.evaluation.aggregates}
    return next((metric(key) for key in UTILITIES if key in have), None)


def _draw(found: Comparison, key: str) -> Figure | str:
    points, utility, column = _points(found, key), _utility(found), metric(key)
    if utility is None or not points:
        return f"no run has both {key} and a utility ({' or '.join(UTILITIES)})"
    sets = arranged(found, [one for one in found.groups if one.label in points])
    quantity, across = _quantity(column, found.options.worst_share), f"{utility.words} (right is better)"
    if len(sets) == 1:
        figure, axes = single(quantity)
        axes.set_xlabel(across)
        grid = [axes]
    else:  # each forget loss on a scale of its own, or its methods would lie on one point
        titles = [panel.title for panel in sets]
        figure, grid = panels(titles, quantity, across, 2.6, same_rows=False, same_columns=False)
    for panel, axes in zip(sets, grid, strict=True):
        means = [_method(axes, label, look, points[one.label]) for one, label, look in panel.methods]
        if len(sets) == 1:
            _reference(found, axes, utility, column)
        axes.margins(0.12)
        if column.logarithmic:
            _significance(axes)
        _front(axes, means, 1 if column.better == "higher" else -1)
    legend_below(figure, *grid)
    return figure


def _method(axes: Axes, label: str, look: Look, seeds: list[_Point]) -> _Point:
    """Draw a method, small by seed and large on average; return its mean."""
    mean = (_mean([x for x, _ in seeds]), _mean([y for _, y in seeds]))
    axes.plot(*zip(*seeds, strict=True), look.marker, color=look.colour, alpha=0.5, markersize=4, mew=0, zorder=3)
    axes.plot(*mean, look.marker, color=look.colour, markersize=9, mec="white", mew=1.0, label=label, zorder=4)
    return mean


def _reference(found: Comparison, axes: Axes, utility: Metric, column: Metric) -> None:
    if found.retain is None:
        return
    x, y = (found.retain.value(one.key, found.options.worst_share) for one in (utility, column))
    if x is not None and y is not None:
        axes.plot(x, column.scaled(y), "*", color="black", markersize=10, label="model that never saw it", zorder=3)


def _quantity(column: Metric, worst_share: float) -> str:
    if column.logarithmic:
        return f"log10 of the {column.words} (up is better)"
    return f"{column.words}, \nmean of the worst {100 * worst_share:g}% (down is better)"


def _significance(axes: Axes) -> None:
    level = math.log10(0.05)
    axes.axhline(level, color=GREY, linewidth=1, linestyle=":", zorder=1)
    axes.annotate("p = 0.05", (0.01, level), xycoords=("axes fraction", "data"), va="bottom", color=GREY)


def _front(axes: Axes, means: list[_Point], upwards: int) -> None:
    """Draw the border of what is beaten by some method: steps from point to point, and out to both edges."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    front = pareto(means, (1, upwards))
    worst = bottom if upwards > 0 else top
    x = [left, *(x for x, _ in front), front[-1][0]]
    y = [front[0][1], *(y for _, y in front), worst]
    axes.step(x, y, where="pre", color=GREY, linewidth=1.0, zorder=1, label="Pareto front")
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _mean(values: list[float]) -> float:
    found = spread(values)
    assert found is not None
    return found.mean
