"""Forgetting sample by sample, over the epochs of a training."""

from __future__ import annotations

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from baldro_ext.balance import forget_balance
from baldro_ext.tools.compare.collect import Run
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.grouping import Group
from baldro_ext.tools.compare.metrics import metric
from baldro_ext.tools.compare.plots.style import legend_below, looks, name_panels, panels
from baldro_ext.tools.compare.statistics import Values

PER_SAMPLE = ("forget_Q_A_Prob", "forget_verbmem_ROUGE", "extraction_strength")


def forgetting(found: Comparison) -> Figure | str:
    """Draw a line per sample, and over them the mean and the mean of the worst share; one seed per method."""
    key, shown = _choice(found)
    if not shown:
        return (
            "no training has evaluations of at least two of its epochs with values of single samples: they come with "
            "trainer.args.eval_strategy=epoch and trainer.args.eval_on_start=true"
        )
    titles, quantity = name_panels([(one.label, run.seed) for one, run in shown], metric(key).words)
    figure, grid = panels(titles, quantity, "epoch")
    style = looks(found)
    for (one, run), axes in zip(shown, grid, strict=True):
        x, values = curves(run, key)
        colour = style[one.label].colour
        lines = [np.column_stack((x, sample)) for sample in values.T]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.5, alpha=min(0.6, 0.1 + 8 / len(lines))))
        worst = [forget_balance(dict(enumerate(row)), found.options.worst_share).worst_mean for row in values]
        axes.plot(x, worst, "--", color="black", label=f"mean of the worst {100 * found.options.worst_share:g}%")
        axes.plot(x, values.mean(axis=1), "-", color="black", label="mean of all")
        axes.set_ylim(0, None)
        axes.set_xlim(x[0], x[-1])
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(figure, grid[0])
    return figure


def curves(run: Run, key: str) -> tuple[Values, Values]:
    """Return the epochs `(m,)` and the values `(m, n)` of the samples that every one of them has."""
    moments = [c for c in run.checkpoints if c.epoch is not None and key in c.evaluation.samples]
    samples = [
        dict(zip(c.evaluation.samples[key].indices, c.evaluation.samples[key].values, strict=True)) for c in moments
    ]
    common = [index for index in (samples[0] if samples else {}) if all(index in values for values in samples)]
    x = np.array([c.epoch for c in moments], dtype=np.float64)
    return x, np.array([[values[index] for index in common] for values in samples], dtype=np.float64)


def _choice(found: Comparison) -> tuple[str, list[tuple[Group, Run]]]:
    """Return the metric, and for each method that has its course the run with the lowest seed."""
    for key in PER_SAMPLE:
        shown = []
        for one in found.groups:
            able = [run for run in one.runs if len(curves(run, key)[0]) > 1 and curves(run, key)[1].size]
            shown += [(one, able[0])] if able else []
        if shown:
            return key, shown
    return "", []
