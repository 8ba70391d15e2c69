"""The worst case over the course of a training, as far as its log tells: how uneven, and who is hardest."""

from __future__ import annotations

import functools
import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from baldro_ext.tools.compare.collect import Run
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.plots.style import WIDTH, legend_below, looks, name_panels, panels
from baldro_ext.tools.compare.statistics import Values

_HARDEST = "forget_set_hardest_"
_NOT_LOGGED = (
    "no training logged {}: BalDRO trainers do (docs/settings.md, What is logged), the framework's own have none"
)


def concentration(found: Comparison) -> Figure | str:
    """Draw the largest weight and the effective sample size over the epochs: a thin line per seed, their mean bold."""
    quantities = {
        "largest_weight": "largest weight of a sample, mean over the steps of an epoch",
        "effective_sample_size": "effective sample size, mean over the steps of an epoch",
    }
    able = [one for one in found.groups if any(len(course(run, "largest_weight")[0]) for run in one.runs)]
    if not able:
        return _NOT_LOGGED.format("weights")
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    grid = figure.subplots(2, 1, sharex=True)
    style = looks(found)
    for axes, (key, words) in zip(grid, quantities.items(), strict=True):
        for one in able:
            colour = style[one.label].colour
            courses = [by_epoch(*course(run, key)) for run in one.runs]
            for x, y in courses:
                axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.45)
            epochs = functools.reduce(np.intersect1d, (x for x, _ in courses))
            means = np.mean([y[np.isin(x, epochs)] for x, y in courses], axis=0)
            axes.plot(epochs, means, marker=style[one.label].marker, markersize=4.5, color=colour, label=one.label)
        axes.set_title(words, fontweight="normal")
        axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[1].set_xlabel("epoch")
    legend_below(figure, grid[0])
    return figure


def hardest(found: Comparison) -> Figure | str:
    """Draw which samples were hardest at the end of each epoch, the hardest largest; one seed per method."""
    shown = [(one, runs[0]) for one in found.groups if (runs := [run for run in one.runs if ranking(run)])]
    if not shown:
        return _NOT_LOGGED.format("the hardest samples")
    height = 0.8 + 0.11 * max(len(_rows(run)) for _, run in shown)
    quantity = "forget samples (index) that were among the five hardest"
    titles, quantity = name_panels([(one.label, run.seed) for one, run in shown], quantity)
    figure, grid = panels(titles, quantity, "epoch", height, same_rows=False)
    style = looks(found)
    for (one, run), axes in zip(shown, grid, strict=True):
        rows = _rows(run)
        for epoch, samples in ranking(run):
            for rank, sample in enumerate(samples):
                axes.plot(
                    epoch, rows.index(sample), "o", color=style[one.label].colour, markersize=7 - 1.2 * rank, mew=0
                )
        axes.set_yticks(range(len(rows)), [str(row) for row in rows], fontsize=6.5)
        axes.invert_yaxis()
        axes.margins(x=0.08)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _rows(run: Run) -> list[int]:
    """Return the samples that were ever among the hardest, in the order in which they first were."""
    return list(dict.fromkeys(sample for _, samples in ranking(run) for sample in samples))


def course(run: Run, key: str) -> tuple[Values, Values]:
    """Return the epochs `(m,)` and logged values `(m,)` of a quantity."""
    entries = [(float(entry["epoch"]), float(entry[key])) for entry in run.log if key in entry and "epoch" in entry]
    table = np.array(entries, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def by_epoch(x: Values, y: Values) -> tuple[Values, Values]:
    """Return means over each epoch; what is logged at its very end belongs to it."""
    epochs = np.ceil(x - 1e-9)
    names = np.unique(epochs)
    return names, np.array([y[epochs == epoch].mean() for epoch in names])


def ranking(run: Run) -> list[tuple[float, list[int]]]:
    """Return the epochs and the indices of their hardest samples, the hardest first."""
    found = []
    for entry in run.log:
        ranks = sorted(int(key.removeprefix(_HARDEST)) for key in entry if key.startswith(_HARDEST))
        if ranks and math.isfinite(entry.get("epoch", math.nan)):
            found.append((float(entry["epoch"]), [int(entry[f"{_HARDEST}{rank}"]) for rank in ranks]))
    return found
