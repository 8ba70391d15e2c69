"""How what is remembered is spread over the samples, before and after unlearning."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.grouping import Group
from baldro_ext.tools.compare.metrics import metric
from baldro_ext.tools.compare.plots.curves import PER_SAMPLE
from baldro_ext.tools.compare.plots.style import GREY, arranged, legend_below, panels
from baldro_ext.tools.compare.statistics import Values


def probability(found: Comparison) -> Figure | str:
    """Draw the first per-sample metric that runs have: probability, or MUSE's verbatim memorisation."""
    return _draw(found, PER_SAMPLE[:2])


def extraction(found: Comparison) -> Figure | str:
    """Draw extraction strength."""
    return _draw(found, ("extraction_strength",))


def before(found: Comparison, key: str) -> Values | None:
    """Return `(n,)` values of the model before unlearning: as given, or the evaluation at step 0 of any run."""
    if found.before is not None:
        return found.before.samples[key].values if key in found.before.samples else None
    starts = (run.checkpoints[0] for one in found.groups for run in one.runs if run.checkpoints)
    return next((c.evaluation.samples[key].values for c in starts if c.step == 0 and key in c.evaluation.samples), None)


def _draw(found: Comparison, keys: tuple[str, ...]) -> Figure | str:
    key = next((key for key in keys if any(_pooled(one, key) is not None for one in found.groups)), None)
    if key is None:
        return f"no run has values of single samples of {' or '.join(keys)} (*_EVAL.json)"
    able = [one for one in found.groups if _pooled(one, key) is not None]
    sets = arranged(found, able)
    titles, height = [one.title for one in sets], 2.4 if len(sets) > 1 else 3.0
    figure, grid = panels(titles, "share of the forget samples above a value", metric(key).words, height)
    for panel, axes in zip(sets, grid, strict=True):
        share = found.options.worst_share
        axes.axhspan(0, share, color="#F3E3B3", alpha=0.6, linewidth=0, label=f"worst {100 * share:g}% of samples")
        for one, label, look in panel.methods:
            _line(axes, _pooled(one, key), look.colour, look.line, label)
        _line(axes, before(found, key), GREY, ":", "before unlearning")
        _line(axes, _of(found.retain, key), "black", ":", "model that never saw it")
        axes.set_ylim(0, 1.02)
    grid[0].set_xlim(0, None)  # of all panels, and so once all lines are there: it ends the scaling to data
    legend_below(figure, *grid)
    return figure


def _pooled(one: Group, key: str) -> Values | None:
    """Return the values of all seeds, one after the other."""
    parts = [run.evaluation.samples[key].values for run in one.runs if key in run.evaluation.samples]
    return np.concatenate(parts) if parts else None


def _of(evaluation: Evaluation | None, key: str) -> Values | None:
    return evaluation.samples[key].values if evaluation is not None and key in evaluation.samples else None


def _line(axes: Axes, values: Values | None, colour: str, line: str, label: str) -> None:
    """Draw the share of the values above each, falling from 1 at the smallest to 0 at the largest."""
    if values is None:
        return
    x = np.sort(values)
    y = 1 - np.arange(1, len(x) + 1) / len(x)
    axes.step(np.concatenate(([0.0], x)), np.concatenate(([1.0], y)), line, where="post", color=colour, label=label)
