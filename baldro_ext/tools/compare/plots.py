"""Pictures: what is left against utility, all samples, and the course of the training.

They are small, in the project's colours, and legible in a column of a paper and on a phone. Each raises
MissingDataError where the runs lack what it needs.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from baldro_ext.errors import BaldroError
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.metrics import PER_SAMPLE, UTILITIES, metric
from baldro_ext.tools.compare.table import BEFORE, RETAIN, Table
from baldro_ext.tools.palette import GREY, colours

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.")
_WIDTH = 4.6  # inches: on a screen of 390 px, 9.5 points are then 10 px
_GUIDE: dict[str, Any] = {"color": GREY, "linestyle": ":", "linewidth": 1, "zorder": 1}
STYLE: dict[Any, Any] = {
    "font.size": 9.5, "font.family": "DejaVu Sans", "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#E6E6E6", "grid.linewidth": 0.7, "axes.edgecolor": "#8C8C8C", "legend.frameon": False,
    "legend.fontsize": 9, "lines.linewidth": 1.8, "pdf.fonttype": 42, "text.parse_math": False,
}  # fmt: skip


class MissingDataError(BaldroError):
    """The runs lack what a picture needs; the message says what."""


def trade_off(comparison: Comparison) -> Figure:
    """Draw what the worst samples keep against utility: means, seeds, and lines through the baseline."""
    table = comparison.evaluations[comparison.evaluations["epoch"].isna()].set_index("method")
    utility, worst = _first(UTILITIES, table), _first([f"{key}.worst" for key in PER_SAMPLE], table)
    points = table.reindex(columns=[utility, worst]).dropna()
    if points.empty:
        raise MissingDataError(f"no run has per-sample values (*_EVAL.json) together with {' or '.join(UTILITIES)}")
    means = points.groupby("method").mean()
    figure, axes, looks = _panel(comparison, means.index, height=2.9)
    for label, (colour, marker, _) in looks.items():
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ""}
        axes.plot(points.loc[[label], utility], points.loc[[label], worst], alpha=0.5, ms=4, mew=0, **style)
        axes.plot(*means.loc[label], label=label, ms=9, mec="white", zorder=3, **style)
    for baseline in looks.keys() & set(comparison.baselines.values()):
        axes.axvline(means.loc[baseline, utility], **_GUIDE)
        axes.axhline(means.loc[baseline, worst], **_GUIDE)
    axes.margins(0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    up = f"{metric(worst).words},\nmean of the worst {100 * comparison.worst_share:g}% (down is better)"
    return _labelled(figure, axes, f"{metric(utility).words} (right is better)", up)


def fronts(comparison: Comparison) -> Figure:
    """Draw what is left against utility: evaluations, the front of each seed, and the mean of the fronts."""
    if (it := comparison.fronts) is None:
        raise MissingDataError("it was not asked for: name levels of the utility by --levels")
    figure, axes, looks = _panel(it.table, it.points["method"].unique(), height=3.1)
    for label, (colour, _, line) in looks.items():
        own = it.points[it.points["method"] == label]
        axes.plot(own["utility"], own["left"], ".", color=colour, ms=5, alpha=0.5, mew=0)
        seeds = []
        for _, seed in own.groupby("seed", dropna=False):
            front = seed[seed["front"]].sort_values("utility")
            # Its first point is the best also where less utility is asked for, as far as that was measured.
            seeds.append(([seed["utility"].min(), *front["utility"]], [front["left"].iloc[0], *front["left"]]))
            axes.plot(*seeds[-1], color=colour, linewidth=0.7, alpha=0.5)
        low, high = max(utility[0] for utility, _ in seeds), min(utility[-1] for utility, _ in seeds)
        across = np.linspace(low, high, 200) if low <= high else []
        mean = np.mean([np.interp(across, utility, left) for utility, left in seeds], axis=0)
        axes.plot(across, mean, color=colour, linestyle=line, label=label, linewidth=2.2)
    for level in it.levels:
        axes.axvline(level, **_GUIDE)
    shown = it.points[it.points["front"]]
    for limit, values in ((axes.set_xlim, shown["utility"]), (axes.set_ylim, shown["left"])):
        margin = 0.06 * (float(np.ptp(values)) or 1.0)  # points far from the front are cut off
        limit(values.min() - margin, values.max() + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    down = {"lower": "down is better", "higher": "up is better", "zero": "nearer to 0 is better"}[it.left.better]
    statistic = it.left.title(comparison.worst_share, it.left.words).rpartition(" ")[0]
    return _labelled(figure, axes, f"{it.utility.words} (right is better)", f"{statistic} ({down})")


def distribution(comparison: Comparison) -> Figure:
    """Draw the share of the samples above each value: methods, the model before, and the retain model."""
    key = _first(PER_SAMPLE, {key for run in comparison.runs for key in run.evaluation.samples})
    if not key:
        raise MissingDataError(f"no run has per-sample values of {', '.join(PER_SAMPLE)} (*_EVAL.json)")

    def pooled(*evaluations: Evaluation | None) -> list[float]:
        return [value for it in evaluations if it and key in it.samples for value in it.samples[key]]

    samples = {method.label: pooled(*(run.evaluation for run in method.runs)) for method in comparison.methods}
    figure, axes, looks = _panel(comparison, [label for label in samples if samples[label]], height=2.5)
    share = comparison.worst_share
    axes.axhspan(0, share, color="#F3E3B3", alpha=0.6, linewidth=0, label=f"worst {100 * share:g}% of the samples")
    for label, (colour, _, line) in looks.items():
        axes.ecdf(samples[label], complementary=True, label=label, color=colour, linestyle=line)
    before, retain = pooled(*comparison.before[:1]), pooled(comparison.references.get(RETAIN))
    for values, label, colour in ((before, BEFORE, GREY), (retain, RETAIN, "black")):
        if values:
            axes.ecdf(values, complementary=True, label=label, color=colour, linestyle=":")
    axes.set(xlim=(0, None), ylim=(0, 1.02))
    return _labelled(figure, axes, metric(key).words, "share of the forget samples above a value")


def curves(comparison: Comparison) -> Figure:
    """Draw the mean of the worst samples and of all over the epochs."""
    table = comparison.evaluations.dropna(subset="epoch")
    table = table[table.groupby("run")["epoch"].transform("size") > 1].dropna(axis="columns", how="all")
    worst = _first([f"{key}.worst" for key in PER_SAMPLE], table)
    if not worst:
        raise MissingDataError(
            "no training has per-sample values for at least two of its epochs: train with "
            "trainer.args.eval_strategy=epoch and trainer.args.eval_on_start=true"
        )
    key = worst.removesuffix(".worst")
    figure, axes, looks = _panel(comparison, table["method"].unique(), height=2.5)
    for label, (colour, marker, _) in looks.items():
        own = table[table["method"] == label]
        for _, seed in own.groupby("run"):
            axes.plot(seed["epoch"], seed[worst], color=colour, linewidth=0.7, alpha=0.45)
        mean = own.groupby("epoch")[[worst, key]].mean()
        axes.plot(mean[worst], color=colour, marker=marker, ms=4.5, label=label)
        axes.plot(mean[key], color=colour, linestyle=":")
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _labelled(figure, axes, "epoch", metric(key).words)


def _first(names: Iterable[str], having: set[str] | pd.DataFrame) -> str:
    return next((name for name in names if name in having), "")


_Looks = dict[str, tuple[str, str, str]]  # colour, marker and line of each method


def _panel(table: Table, labels: Iterable[str], height: float) -> tuple[Figure, Axes, _Looks]:
    """Return a figure, its axes, and the look of these methods by label; a method looks the same in every picture."""
    shown, colour = set(labels), colours(method.label for method in table.methods)
    if len(colour) > 2 * len(_MARKERS):
        raise MissingDataError(f"{len(colour)} methods are too many to tell apart: name fewer of them")
    looks = {
        label: (colour[label], _MARKERS[place % len(_MARKERS)], _LINES[place % len(_LINES)])
        for place, label in enumerate(colour)
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=200, layout="constrained")
        axes = figure.subplots()
    return figure, axes, {label: look for label, look in looks.items() if label in shown}


def _labelled(figure: Figure, axes: Axes, across: str, up: str) -> Figure:
    """Name the axes, the vertical one above where it is read without a turn, and add the legend below."""
    handles, labels = axes.get_legend_handles_labels()
    with rc_context(STYLE):
        figure.suptitle(up, x=0.01, ha="left", fontsize=9.5)
        axes.set_xlabel(across, loc="left")
        columns = min(2 if max(map(len, labels)) <= 26 else 1, len(labels))
        figure.set_figheight(figure.get_figheight() + max(0.7, 0.19 * math.ceil(len(labels) / columns)))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
    return figure
