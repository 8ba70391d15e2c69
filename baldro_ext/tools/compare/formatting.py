"""Write a comparison as text: numbers with three significant digits, and tables of strings for every output."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from baldro_ext.suggest import shortened
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.methods import by_grid
from baldro_ext.tools.compare.statistics import T_INTERVAL_FROM

ABSENT = "-"
_FEW_SEEDS = 6  # from here on all of them agree by chance in less than one case of twenty
_SMALLEST_LOG10 = math.log10(5e-324)  # smaller p-values are rounded to 0


def number(value: float | None) -> str:
    """Return a number with three significant digits; `-` for none."""
    if value is None or math.isnan(value):
        return ABSENT
    if value == -math.inf:
        return f"< {_SMALLEST_LOG10:.0f}"
    if value == 0:
        return "0"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:#.3g}".rstrip(".")


def mean_and_spread(mean: float, spread: tuple[float, ...], n: int, seeds: int) -> str:
    """Return `0.112 ± 0.008` or `0.112 [0.102, 0.120]`, and where seeds lack the value how many have it: `(2 of 3)`.

    Args:
        mean: Over seeds.
        spread: The standard deviation, or both ends of an interval.
        n: Seeds that have the value.
        seeds: All of them.
    """
    if n == 0:
        return ABSENT
    text = number(mean)
    if len(spread) == 2:
        text += f" [{number(spread[0])}, {number(spread[1])}]" if n > 1 else ""
    elif not math.isnan(sd := spread[0]):
        rounded = f"{sd:.{len(text.partition('.')[2])}f}"
        # A deviation that would be rounded to 0 has as many decimals as it needs.
        text += f" ± {number(sd) if 'e' in text or sd == 0 else rounded if float(rounded) else f'{sd:.1g}'}"
    return text if n == seeds else f"{text} ({n} of {seeds})"


def results(comparison: Comparison, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Return the main table as strings: a row per method, and a column per metric with mean, deviation and mark.

    A method has a mark where its shown digits differ from its baseline's. The last rows are the model before
    unlearning, the retain model and published numbers.

    Args:
        comparison: The comparison.
        metrics: Keys among those it shows; empty for all.
    """
    shown = [it for it in comparison.metrics if not metrics or it.key in metrics]
    rows = {}
    for method in comparison.methods:
        cells = [comparison.summary.loc[(it.key, method.label)] for it in shown]
        seeds = len({run.seed for run in method.runs})
        spread = ("low", "high") if comparison.intervals else ("sd",)
        texts = [mean_and_spread(it["mean"], tuple(it[list(spread)]), it["n"], seeds) for it in cells]
        if baseline := comparison.baselines.get(method.label):
            theirs = [number(comparison.summary.loc[(it.key, baseline), "mean"]) for it in shown]
            marks = [it["mark"] if number(it["mean"]) != other else "" for it, other in zip(cells, theirs, strict=True)]
            texts = [f"{text} {mark}".strip() for text, mark in zip(texts, marks, strict=True)]
        rows[method.label] = [str(seeds), *texts]
    for label, evaluation in (("before unlearning", comparison.before), ("retain model", comparison.retain)):
        if evaluation is not None:
            values = evaluation.values(comparison.worst_share)
            rows[label] = [ABSENT, *(number(it.scaled(values[it.key])) if it.key in values else ABSENT for it in shown)]
    for method, numbers in comparison.published.groupby("method", sort=False):
        series = [numbers.loc[numbers["metric"] == it.key, "value"].map(it.scaled) for it in shown]
        rows[f"{method} (published)"] = [
            ABSENT,
            *(mean_and_spread(it.mean(), (it.std(),), len(it), len(it)) for it in series),
        ]
    titles = [it.title(comparison.worst_share) for it in shown]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["seeds", *titles])


def oriented(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main table with its longer side down, as it is easier to read."""
    return table if len(table) > len(table.columns) - 1 else table.T


def gains(comparison: Comparison) -> pd.DataFrame:
    """Return each method against its baseline as strings, a row per metric and method with one."""
    summary = comparison.summary.query("pairs > 0").reset_index()
    rows = list(summary.itertuples())
    return pd.DataFrame(
        {
            "metric": summary["metric"].map({it.key: it.title(comparison.worst_share) for it in comparison.metrics}),
            "method": summary["method"],
            "against": summary["baseline"],
            "gain": [mean_and_spread(it.gain, (it.gain_low, it.gain_high), it.pairs, it.pairs) for it in rows],
            "better in": [f"{row.better:.0f} of {row.pairs:.0f}" for row in rows],
        }
    ).set_index("metric")


def notes(comparison: Comparison, marks: bool = True) -> list[str]:
    """Return what must stand below the tables, with marks or without, the most important first."""
    lines = [f"MIXED RUNS, compared only because of --allow-mixed: {line}" for line in comparison.mixed]
    lines += [f"UNFAIR: {line}" for line in comparison.unfair]
    if comparison.intervals:
        lines.append(
            f"[low, high]: over seeds, from {T_INTERVAL_FROM} seeds on the 95% t interval of the mean, otherwise the "
            "smallest and largest value."
        )
    elif max(len(method.runs) for method in comparison.methods) > 1:
        lines.append("± is the standard deviation over seeds.")
    else:
        lines.append("One seed per method: the spread over seeds is unknown.")
    lines.append("↓ lower, ↑ higher, →0 nearer to 0 is better.")
    if comparison.baselines and marks:
        labels = set(comparison.baselines.values())
        grids = {comparison[label].grid for label in labels}
        same = " with the same learning rate" * (len(grids) < len(labels))
        lines.append(
            f"better, worse: than {' or '.join(sorted(grids if same else labels))}{same} in each of at least two "
            "common seeds; (better), (worse): on average, or with one seed; no word: the shown digits are the same."
        )
    pairs = comparison.summary["pairs"].replace(0, math.nan).dropna()
    if 1 < (fewest := pairs.min()) < _FEW_SEEDS:
        lines.append(f"{fewest:.0f} seeds agree by chance alone in {200 / 2**fewest:.3g}% of cases.")
    if any(it.logarithmic for it in comparison.metrics):
        lines.append("log10: averaged and compared as logarithm, because values span many orders of magnitude.")
    if not comparison.fronts and len(by_grid(comparison.methods)) < len(comparison.methods):
        lines.append("One method with several learning rates: compare at equal utility by --levels auto.")
    return [*lines, *_about_published(comparison), *comparison.notes]


def _about_published(comparison: Comparison) -> list[str]:
    if comparison.published.empty:
        return []
    sources = [source for source in comparison.published["source"].unique() if source]
    line = f"(published): numbers of others{' from ' * bool(sources)}{'; '.join(sources)}, in no test and not ranked."
    unknown = sorted(set(comparison.published["metric"]) - {it.key for it in comparison.metrics})
    return [line, *([f"published, but not shown here: {shortened(unknown, 6)}"] if unknown else [])]


def text(comparison: Comparison, width: int = 120) -> str:
    """Return table and notes for a terminal; a wider table goes on below."""
    table = oriented(results(comparison)).to_string(line_width=width)
    above = text(comparison.fronts.comparison, width) + "\n\n" if comparison.fronts else ""
    return f"{above}{table}\n\n" + "\n".join(notes(comparison))
