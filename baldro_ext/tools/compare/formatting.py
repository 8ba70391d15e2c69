"""Write a comparison as text: numbers with three significant digits, and tables of strings for every output."""

import math
import re
import textwrap
from collections.abc import Sequence

import pandas as pd

from baldro_ext.suggest import shortened
from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.statistics import T_INTERVAL_FROM
from baldro_ext.tools.compare.table import Table

ABSENT = "-"
_FEW_SEEDS = 6  # from here on all of them agree by chance in less than one case of twenty
_TITLE = 20  # characters of a line of a column's title in a terminal, but for longer words
_SMALLEST_LOG10 = math.log10(5e-324)  # smaller p-values are rounded to 0


def number(value: float | None) -> str:
    """Return a number with three significant digits; `-` for none."""
    if value is None or math.isnan(value):
        return ABSENT
    if value == -math.inf:
        return f"< {_SMALLEST_LOG10:.0f}"
    if value == 0:
        return "0"
    whole = 999.5 <= abs(value) < 999_999.5  # by what is left of the decimal point after rounding
    return f"{value:.0f}" if whole else f"{value:#.3g}".rstrip(".")


def mean_and_spread(mean: float, spread: Sequence[float], n: int, seeds: int) -> str:
    """Return `0.112 ± 0.008` or `0.112 [0.102, 0.120]`, and where only n of the seeds have the value `(2 of 3)`.

    `spread` is the standard deviation, or both ends of an interval.
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


def results(table: Table, metrics: Sequence[str] = ()) -> pd.DataFrame:
    """Return the main table as strings: a row per method, and a column per metric with mean, deviation and mark.

    A method has a mark where its shown digits differ from its baseline's. The last rows are the model before
    unlearning, the retain model and published numbers. `metrics` are keys among those it shows; empty for all.
    """
    shown = [it for it in table.metrics if not metrics or it.key in metrics]
    rows = {}
    for method in table.methods:
        seeds = len({run.seed for run in method.runs})
        rows[method.label] = [str(seeds), *(_cell(table, it.key, method.label, seeds) for it in shown)]
    for label, evaluation in table.references.items():
        values = evaluation.values(table.worst_share)
        rows[label] = [ABSENT, *(number(it.scaled(values.get(it.key, math.nan))) for it in shown)]
    for method, numbers in table.published.groupby("method", sort=False):
        series = [numbers.loc[numbers["metric"] == it.key, "value"].map(it.scaled) for it in shown]
        cells = [mean_and_spread(it.mean(), [it.std()], len(it), len(it)) for it in series]
        rows[f"{method} (published)"] = [ABSENT, *cells]
    titles = [it.title(table.worst_share) for it in shown]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["seeds", *titles])


def _cell(table: Table, key: str, label: str, seeds: int) -> str:
    row = table.summary.loc[(key, label)]
    spread = [row["low"], row["high"]] if table.intervals else [row["sd"]]
    cell = mean_and_spread(row["mean"], spread, row["n"], seeds)
    if row["mark"] and number(row["mean"]) != number(table.summary.loc[(key, row["baseline"]), "mean"]):
        cell += f" {row['mark']}"
    return cell


def oriented(table: pd.DataFrame) -> pd.DataFrame:
    """Return the main table with its longer side down, as it is easier to read."""
    return table if len(table) > len(table.columns) - 1 else table.T


def gains(table: Table) -> pd.DataFrame:
    """Return each method against its baseline as strings, a row per metric and method with one."""
    titles = {it.key: it.title(table.worst_share) for it in table.metrics}
    rows = [
        (titles[row.metric], row.method, row.baseline,
         mean_and_spread(row.gain, [row.gain_low, row.gain_high], row.pairs, row.pairs), f"{row.better} of {row.pairs}")
        for row in table.summary.query("pairs > 0").reset_index().itertuples()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["metric", "method", "against", "gain", "better in"]).set_index("metric")


def notes(table: Table, marks: bool = True) -> list[str]:
    """Return what must stand below the tables, with marks or without, the most important first."""
    lines = [*table.warnings]
    if table.intervals:
        lines.append(
            f"[low, high]: over seeds, from {T_INTERVAL_FROM} seeds on the 95% t interval of the mean, otherwise the "
            "smallest and largest value."
        )
    elif max(len(method.runs) for method in table.methods) > 1:
        lines.append("± is the standard deviation over seeds.")
    else:
        lines.append("One seed per method: the spread over seeds is unknown.")
    lines.append("↓ lower, ↑ higher, →0 nearer to 0 is better.")
    if table.baselines and marks:
        labels = set(table.baselines.values())
        grids = {table[label].grid for label in labels}
        same = " with the same learning rate" * (len(grids) < len(labels))
        lines.append(
            f"better, worse: than {' or '.join(sorted(grids if same else labels))}{same} in each of at least two "
            "common seeds; (better), (worse): on average, or with one seed; no word: the shown digits are the same."
        )
    pairs = table.summary["pairs"]
    if 1 < (fewest := pairs[pairs > 0].min()) < _FEW_SEEDS:
        lines.append(f"{fewest} seeds agree by chance alone in {200 / 2**fewest:.3g}% of cases.")
    if any(it.logarithmic for it in table.metrics):
        lines.append("log10: averaged and compared as logarithm, because values span many orders of magnitude.")
    if sources := list(table.published["source"].unique()):
        origin = f" from {'; '.join(filter(None, sources))}" if any(sources) else ""
        lines.append(f"(published): numbers of others{origin}, in no test and not ranked.")
    if hidden := sorted(set(table.published["metric"]) - {it.key for it in table.metrics}):
        lines.append(f"published, but not shown here: {shortened(hidden, 6)}")
    return [*lines, *table.notes]


def text(comparison: Comparison, width: int = 120) -> str:
    """Return tables and notes for a terminal of this many columns."""
    return "\n\n".join(
        part for it in comparison.tables for part in (_blocks(oriented(results(it)), width), "\n".join(notes(it)))
    )


def _blocks(table: pd.DataFrame, width: int) -> str:
    """Return a table as text, the columns that do not fit in further blocks below, each with the names of the rows."""
    titles = [textwrap.fill(re.sub(r" (\S+)$", "\xa0\\1", it), _TITLE, break_long_words=False) for it in table.columns]
    table, blocks = table.set_axis([title.replace("\xa0", " ") for title in titles], axis="columns"), []
    while len(table.columns):
        for count in range(len(table.columns), 0, -1):
            sides = ("left", *["right"] * count)
            block = str(table.iloc[:, :count].to_markdown(tablefmt="plain", disable_numparse=True, colalign=sides))
            if max(map(len, block.splitlines())) <= width:
                break
        blocks.append(block)
        table = table.iloc[:, count:]
    return "\n\n".join(blocks)
