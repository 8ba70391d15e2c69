"""What a comparison says, in sentences: the main one first, with its price."""

from __future__ import annotations

from baldro_ext.tools.compare.comparison import Cell, Comparison
from baldro_ext.tools.compare.grouping import Group
from baldro_ext.tools.compare.metrics import Metric
from baldro_ext.tools.compare.numbers import number
from baldro_ext.tools.compare.plots.tradeoff import REMAINDERS, UTILITIES
from baldro_ext.tools.compare.statistics import Paired


def findings(found: Comparison) -> list[str]:
    """Return one sentence per method with a baseline, the one that gains most on the worst samples first."""
    main = _first(found, REMAINDERS) or next((column for column in found.metrics if column.better), None)
    utility = _first(found, UTILITIES)
    if main is None or not found.baselines:
        return [f"{len(found.groups)} method{'s' * (len(found.groups) > 1)} without a baseline: read the table."]
    rivals = [one for one in found.groups if (cell := found.cell(one, main)).paired and cell.spread]
    rivals.sort(key=lambda one: -_gain(found.cell(one, main)))
    if not rivals:
        return [f"No method has both {_named(found, main)} and a baseline to compare it with."]
    columns = [main, *([utility] if utility and utility != main else [])]
    sentences = [_sentence(found, one, columns) for one in rivals]
    if _gain(found.cell(rivals[0], main)) <= 0:
        sentences.insert(0, f"No method improves on its baseline in {_named(found, main)}.")
    return sentences


def _sentence(found: Comparison, one: Group, columns: list[Metric]) -> str:
    against = found[found.baselines[one.label]]
    clauses = [clause for column in columns if (clause := _clause(found, one, against, column))]
    return (
        f"Against {against.label}{_alone(found, one, columns)}, {one.label} {', and '.join(clauses)}."
        if clauses
        else ""
    )


def _clause(found: Comparison, one: Group, against: Group, column: Metric) -> str:
    """Say how a metric moves, and in how many seeds."""
    result = found.cell(one, column).paired
    if result is None:
        return ""
    # Of the seeds that both have: with others in it, a mean could rise where every pair falls.
    before, after = (found.mean(method, column, result.seeds) for method in (against, one))
    if before is None or after is None:
        return ""
    if number(before) == number(after):
        return f"leaves {_named(found, column)} at {number(after)}"
    words = f"{'raises' if after > before else 'lowers'} {_named(found, column)}"
    return f"{words} from {number(before)} to {number(after)}{_agreement(result)}"


def _alone(found: Comparison, one: Group, columns: list[Metric]) -> str:
    results = (found.cell(one, column).paired for column in columns)
    return " in one seed" if max(len(result.seeds) for result in results if result) == 1 else ""


def _agreement(result: Paired) -> str:
    seeds = len(result.seeds)
    if seeds == 1:
        return ""
    if seeds == 0 or not result.gain:
        return f" ({result.note})" if result.note else ""
    better = result.gain > 0
    return f" ({'better' if better else 'worse'} in {result.better if better else result.worse} of {seeds} seeds)"


def _named(found: Comparison, column: Metric) -> str:
    words = f"log10 of the {column.words}" if column.logarithmic else column.words
    share = f"{100 * found.options.worst_share:g}%"
    if column.statistic == "worst":
        return f"what the worst {share} keep ({words})"
    return f"what the worst sample keeps ({words})" if column.statistic == "largest" else words


def _first(found: Comparison, keys: tuple[str, ...]) -> Metric | None:
    shown = {column.key: column for column in found.metrics}
    return next((shown[key] for key in keys if key in shown), None)


def _gain(cell: Cell) -> float:
    return cell.paired.gain if cell.paired and cell.paired.gain is not None else float("-inf")
