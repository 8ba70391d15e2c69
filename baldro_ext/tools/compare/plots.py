"""Three pictures: what the worst samples keep against utility, all samples, and the course of the training.

They are small, in the project's colours, and legible in a column of a paper and on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from baldro_ext.errors import BaldroError
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.methods import Method
from baldro_ext.tools.compare.metrics import PER_SAMPLE, UTILITIES, metric
from baldro_ext.tools.compare.run import RunResult
from baldro_ext.tools.palette import GREY, colours

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.")
_WIDTH = 4.6  # inches: on a screen of 390 px, 9.5 points are then 10 px
STYLE: dict[Any, Any] = {
    "font.size": 9.5, "font.family": "DejaVu Sans", "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#E6E6E6", "grid.linewidth": 0.7, "axes.edgecolor": "#8C8C8C", "legend.frameon": False,
    "legend.fontsize": 9, "lines.linewidth": 1.8, "pdf.fonttype": 42, "text.parse_math": False,
}  # fmt: skip


class MissingDataError(BaldroError):
    """The runs lack what a picture needs; the message says what."""


def trade_off(comparison: Comparison) -> Figure:
    """Draw what the worst samples keep against utility: means, seeds, and lines through the baseline.

    Raises:
        MissingDataError: No run has per-sample values together with a utility.
    """
    values = comparison.evaluations[comparison.evaluations["epoch"].isna()].set_index(["method", "run"])
    utility = next((key for key in UTILITIES if key in values), "")
    worst = next((f"{key}.worst" for key in PER_SAMPLE if f"{key}.worst" in values), "")
    points = values.reindex(columns=[utility, worst]).dropna()
    if points.empty:
        raise MissingDataError(f"no run has per-sample values (*_EVAL.json) together with {' or '.join(UTILITIES)}")
    means = points.groupby("method").mean()
    # Each forget loss has scales of its own, or its methods would lie on one point.
    figure, panels = _panels(comparison.methods, set(means.index), height=2.9, share=False)
    for axes, methods in panels:
        for label, look in methods.items():
            style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "linestyle": ""}
            axes.plot(points.loc[label, utility], points.loc[label, worst], alpha=0.5, ms=4, mew=0, **style)
            axes.plot(*means.loc[label], label=look.name, ms=9, mec="white", zorder=3, **style)
        for baseline in methods.keys() & set(comparison.baselines.values()):
            axes.axvline(means.loc[baseline, utility], color=GREY, linestyle=":", linewidth=1, zorder=1)
            axes.axhline(means.loc[baseline, worst], color=GREY, linestyle=":", linewidth=1, zorder=1)
        axes.margins(0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    share = f"{100 * comparison.worst_share:g}%"
    up = f"{metric(worst).words},\nmean of the worst {share} (down is better)"
    return _labelled(figure, panels, f"{metric(utility).words} (right is better)", up)


def fronts(comparison: Comparison) -> Figure:
    """Draw what is left against utility: evaluations, the front of each seed, and the mean of the fronts.

    Raises:
        MissingDataError: The comparison has no fronts.
    """
    if (it := comparison.fronts) is None:
        raise MissingDataError("it was not asked for: name levels of the utility by --levels")
    best = it.points[it.points["front"]].sort_values("utility")
    figure, panels = _panels(it.comparison.methods, set(it.points["method"]), height=3.1, share=False)
    for axes, methods in panels:
        for label, look in methods.items():
            own = it.points[it.points["method"] == label]
            axes.plot(own["utility"], own["left"], ".", color=look.colour, ms=5, alpha=0.5, mew=0)
            seeds = []
            for _, front in best[best["method"] == label].groupby("seed", dropna=False):
                lowest = own.loc[own["seed"].isin(front["seed"]) | front["seed"].isna().all(), "utility"].min()
                # Its first point is the best also where less utility is asked for, as far as that was measured.
                seeds.append((np.array([lowest, *front["utility"]]), np.array([front["left"].iloc[0], *front["left"]])))
                axes.plot(*seeds[-1], color=look.colour, linewidth=0.7, alpha=0.5)
            low, high = max(utility[0] for utility, _ in seeds), min(utility[-1] for utility, _ in seeds)
            across = np.linspace(low, high, 200) if low <= high else []
            mean = np.mean([np.interp(across, utility, left) for utility, left in seeds], axis=0)
            axes.plot(across, mean, color=look.colour, linestyle=look.line, label=look.name, linewidth=2.2)
        for level in it.levels:
            axes.axvline(level, color=GREY, linestyle=":", linewidth=1, zorder=1)
        shown = best[best["method"].isin(methods)]
        for limit, values in ((axes.set_xlim, shown["utility"]), (axes.set_ylim, shown["left"])):
            margin = 0.06 * (float(np.ptp(values)) or 1.0)  # points far from the front are cut off
            limit(values.min() - margin, values.max() + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    down = {"lower": "down is better", "higher": "up is better", "zero": "nearer to 0 is better"}[it.left.better]
    statistic = it.left.title(comparison.worst_share, it.left.words).rpartition(" ")[0]
    return _labelled(figure, panels, f"{it.utility.words} (right is better)", f"{statistic} ({down})")


def distribution(comparison: Comparison) -> Figure:
    """Draw the share of the samples above each value: methods, the model before, and the retain model.

    Raises:
        MissingDataError: No run has per-sample values.
    """
    key = next((key for key in PER_SAMPLE for run in comparison.runs if key in run.evaluation.samples), "")
    if not key:
        raise MissingDataError(f"no run has per-sample values of {', '.join(PER_SAMPLE)} (*_EVAL.json)")
    able = {method.label: method.runs for method in comparison.methods if _pooled(method.runs, key) is not None}
    figure, panels = _panels(comparison.methods, set(able), height=2.5)
    share = comparison.worst_share
    for axes, methods in panels:
        axes.axhspan(0, share, color="#F3E3B3", alpha=0.6, linewidth=0, label=f"worst {100 * share:g}% of the samples")
        for label, look in methods.items():
            _survival(axes, _pooled(able[label], key), label=look.name, color=look.colour, linestyle=look.line)
        _survival(axes, _samples(_before(comparison), key), label="before unlearning", color=GREY, linestyle=":")
        _survival(axes, _samples(comparison.retain, key), label="retain model", color="black", linestyle=":")
        axes.set_ylim(0, 1.02)
    panels[0][0].set_xlim(0, None)  # panels share it, so only when all curves are there
    return _labelled(figure, panels, metric(key).words, "share of the forget samples above a value")


def curves(comparison: Comparison) -> Figure:
    """Draw the mean of the worst samples and of all over the epochs.

    Raises:
        MissingDataError: No training was evaluated at two of its epochs.
    """
    table = comparison.evaluations.dropna(subset="epoch")
    table = table[table.groupby("run")["epoch"].transform("size") > 1].dropna(axis="columns", how="all")
    key = next((key for key in PER_SAMPLE if f"{key}.worst" in table), "")
    if not key:
        raise MissingDataError(
            "no training has per-sample values for at least two of its epochs: train with "
            "trainer.args.eval_strategy=epoch and trainer.args.eval_on_start=true"
        )
    figure, panels = _panels(comparison.methods, set(table["method"]), height=2.5)
    for axes, methods in panels:
        for label, look in methods.items():
            own = table[table["method"] == label]
            for _, seed in own.groupby("run"):
                axes.plot(seed["epoch"], seed[f"{key}.worst"], color=look.colour, linewidth=0.7, alpha=0.45)
            mean = own.groupby("epoch")[[f"{key}.worst", key]].mean()
            axes.plot(mean[f"{key}.worst"], color=look.colour, marker=look.marker, ms=4.5, label=look.name)
            axes.plot(mean[key], color=look.colour, linestyle=":")
        axes.set_ylim(0, None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _labelled(figure, panels, "epoch", metric(key).words)


def _before(comparison: Comparison) -> Evaluation | None:
    """Return the evaluation of the model before unlearning, or that of a training's step 0."""
    return comparison.before or next((run.checkpoints[0] for run in comparison.runs if 0 in run.checkpoints), None)


def _samples(evaluation: Evaluation | None, key: str) -> pd.Series | None:
    return evaluation.samples.get(key) if evaluation else None


def _pooled(runs: Sequence[RunResult], key: str) -> pd.Series | None:
    parts = [run.evaluation.samples[key] for run in runs if key in run.evaluation.samples]
    return pd.concat(parts) if parts else None


def _survival(axes: Axes, values: pd.Series | None, **look: Any) -> None:
    """Draw the share of the values above each: 1 left of the smallest, 0 from the largest on."""
    if values is not None:
        x = np.concatenate(([0.0], np.sort(values)))
        axes.step(x, 1 - np.arange(len(x)) / len(values), where="post", **look)


class _Look(NamedTuple):
    name: str
    colour: str
    marker: str
    line: str


_Panels = list[tuple[Axes, dict[str, _Look]]]


def _panels(
    all_methods: Sequence[Method], labels: set[str], height: float, share: bool = True
) -> tuple[Figure, _Panels]:
    """Return a figure with the look of these methods by label: one panel, or one per forget loss if there are many."""
    split = len(all_methods) > len(_MARKERS) and len({method.family for method in all_methods}) > 1
    names = {method.label: method.variant if split else method.label for method in all_methods}
    if len(set(names.values())) > 2 * len(_MARKERS):
        raise MissingDataError(f"{len(all_methods)} methods are too many to tell apart: name fewer of them")
    # A variant looks the same in every panel and picture.
    colour = colours(names.values())
    groups: dict[str, dict[str, _Look]] = {}
    for place, name in enumerate(colour):
        for method in all_methods:
            if method.label in labels and names[method.label] == name:
                look = _Look(name, colour[name], _MARKERS[place % 7], _LINES[place % 3])
                groups.setdefault(method.family if split else "", {})[method.label] = look
    columns = min(2, len(groups))
    rows = math.ceil(len(groups) / columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height * rows + 0.7), dpi=200, layout="constrained")
        grid = figure.subplots(rows, columns, sharex=share, sharey=share, squeeze=False).flatten()
        for axes, title in zip(grid, groups, strict=False):
            axes.set_title(title, fontweight="bold")
            axes.tick_params(labelbottom=True)
        for axes in grid[len(groups) :]:
            axes.remove()
    return figure, list(zip(grid, groups.values(), strict=False))


def _labelled(figure: Figure, panels: _Panels, across: str, up: str) -> Figure:
    """Name the axes, the vertical one above the panels where it is read without a turn, and put one legend below."""
    entries = {
        label: handle for axes, _ in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    with rc_context(STYLE):
        figure.suptitle(up, x=0.01, ha="left", fontsize=9.5)
        panels[(len(panels) - 1) // 2 * 2][0].set_xlabel(across, loc="left")
        columns = min(2 if max(map(len, entries)) <= 26 else 1, len(entries))
        figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=columns)
    return figure
