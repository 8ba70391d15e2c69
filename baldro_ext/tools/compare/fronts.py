"""Compare methods at equal utility: what is left at the best of their learning rates and epochs, seed by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from baldro_ext.errors import UsageError
from baldro_ext.suggest import chosen, shortened
from baldro_ext.tools.compare.methods import baselines, by_grid
from baldro_ext.tools.compare.metrics import OF_TASKS, PER_SAMPLE, UTILITIES, Metric, metric
from baldro_ext.tools.compare.table import Table

_MUCH = 0.75  # of what the model knew before unlearning: where more is left, little was forgotten


@dataclass(frozen=True)
class Fronts:
    """Methods at equal utility."""

    utility: Metric  # that is held equal
    left: Metric  # that is compared
    levels: tuple[float, ...]  # of the utility
    # A row per evaluation after the first step, with columns method, seed, learning_rate, epoch (none for a final
    # evaluation), run, utility, left, cost (less is better), and front: whether no other evaluation of its method and
    # seed makes it superfluous.
    points: pd.DataFrame
    table: Table  # a method per grid, and a metric per level: what is left there


def pareto(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points, with columns utility and cost, that cost less than all others of at least their utility."""
    ordered = points.sort_values(["utility", "cost"], ascending=[False, True])
    return ordered[ordered["cost"] < ordered["cost"].cummin().shift(fill_value=math.inf)][::-1]


def cost_at(level: float, front: pd.DataFrame) -> float:
    """Return the cost at a level of the utility, interpolated between neighbours on the front; nan above the front.

    Below the front it is the cost of its first point, which has more utility than needed.
    """
    return float(np.interp(level, front["utility"], front["cost"], right=math.nan))


def fronts(
    final: Table, evaluations: pd.DataFrame, baseline: str, levels: Sequence[float], by: str, compared: str
) -> Fronts:
    """Return the methods of a table at equal utility; `by` and `compared` are `utility` and `left` of `compare`."""
    points, utility, left = _points(final, evaluations, by, compared)
    groups = [(*key, own, pareto(own)) for key, own in points.groupby(["method", "seed"], dropna=False, sort=False)]
    points["front"] = points.index.isin([place for *_, front in groups for place in front.index])
    methods, labels = by_grid(final.methods), {method.label: method.grid for method in final.methods}
    pairs, alone = baselines(methods, labels.get(baseline, baseline))
    first = next((it for it in pairs.values() if it in set(points["method"])), points["method"].iloc[0])
    levels = sorted({float(f"{it:g}") for it in levels}) or _round_levels(points, first)  # as they are shown
    name, words = (left.title(final.worst_share, it).rpartition(" ")[0] for it in ("", left.words))
    metrics = [
        Metric(f"{name} at {utility.key} {it:g}", left.better, f"{words} at {utility.words} {it:g}") for it in levels
    ]
    rows = [
        {"method": method, "seed": seed, "run": f"{method}, seed {seed}", "metric": shown.key, "level": level,
         "value": cost_at(level, front) * (-1 if left.better == "higher" else 1),
         "learning_rate": front["learning_rate"].iloc[(front["utility"] - level).abs().argmin()],
         "below": level < own["utility"].min()}
        for level, shown in zip(levels, metrics, strict=True) for method, seed, own, front in groups
    ]  # fmt: skip
    at_levels = pd.DataFrame(rows).astype({"seed": "Int64"})
    empty = [method.label for method in methods if method.label not in set(points["method"])]
    absent = [f"{it} has no evaluation with both {utility.key} and {left.key}" for it in empty]
    # Below all evaluations the value is only a bound: without a seed, it is compared with no other.
    values = at_levels.assign(seed=at_levels["seed"].mask(at_levels["below"])).dropna(subset="value")
    table = Table(
        methods=tuple(methods),
        metrics=tuple(metrics),
        values=values[["method", "seed", "run", "metric", "value"]],
        baselines=pairs,
        worst_share=final.worst_share,
        warnings=_little(final, left, values, points),
        notes=(*alone, *absent, *_outside(at_levels), *_edges(points, values)),
        intervals=True,
    )
    return Fronts(utility, left, tuple(levels), points, table)


def _points(final: Table, evaluations: pd.DataFrame, by: str, compared: str) -> tuple[pd.DataFrame, Metric, Metric]:
    """Return the evaluations that have both metrics, and the metrics."""
    table = evaluations[evaluations["epoch"] != 0]  # where nothing has been unlearned
    offered = list(table.drop(columns=["method", "seed", "learning_rate", "run", "epoch"]))
    by = by or _first(UTILITIES, offered, "--utility")
    compared = compared or _first((*(f"{key}.worst" for key in PER_SAMPLE), *PER_SAMPLE, *OF_TASKS), offered, "--left")
    utility, left = metric(chosen(by, offered, "--utility")), metric(chosen(compared, offered, "--left"))
    if utility.better != "higher" or not left.better:
        raise UsageError(
            f"--utility {utility.key} --left {left.key}: more of the first must be better, and it must be known "
            "whether more or less of the second is: use metrics such as model_utility and extraction_strength"
        )
    grids = {method.label: method.grid for method in final.methods}
    values = table[left.key].map(left.scaled)
    table = table[["seed", "learning_rate", "epoch", "run"]].assign(
        method=table["method"].map(grids), utility=table[utility.key], left=values, cost=-left.gain(values, 0.0)
    )
    table = table[np.isfinite(table[["utility", "cost"]]).all(axis=1)].reset_index(drop=True)
    if table.empty:
        raise UsageError(f"no evaluation has both {utility.key} and {left.key}: choose by --utility and --left")
    return table, utility, left


def _first(usual: Sequence[str], offered: Sequence[str], option: str) -> str:
    """Return the first of the usual metrics that was evaluated."""
    found = next((key for key in usual if key in offered), None)
    if found is None:
        told = f"none of {', '.join(usual)} was evaluated: name a metric by {option}, of {', '.join(offered)}"
        raise UsageError(f"methods cannot be compared at equal utility, because {told}")
    return found


def _round_levels(points: pd.DataFrame, baseline: str) -> list[float]:
    """Return a few round levels along all fronts, as far as every seed of the baseline was measured.

    If there is none, it is the highest level that all seeds of the baseline reach.
    """
    measured = points[points["method"] == baseline].groupby("seed", dropna=False)["utility"].agg(["min", "max"])
    highest = measured["max"].min()
    lowest = max(measured["min"].max(), points.loc[points["front"], "utility"].min())
    ticks = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(min(lowest, highest), highest)
    # Differences of less than 0.01 say nothing.
    inside = sorted({float(f"{it:.6g}") for it in np.round(ticks, 2) if lowest <= it <= highest})
    return inside or [math.floor(highest * 1000) / 1000]


def _little(final: Table, left: Metric, values: pd.DataFrame, points: pd.DataFrame) -> tuple[str, ...]:
    """Return a warning where no method forgot much at any level, so that nothing can be said about them."""
    start = [it.values(final.worst_share).get(left.key) for it in final.before]
    known = next((it for it in start if it is not None), None)
    most = 1.0 if known is None else known
    least = values.groupby(["level", "method"])["value"].mean().min()
    if left.better != "lower" or (known is None and not left.key.startswith(PER_SAMPLE)) or not least > _MUCH * most:
        return ()
    of = f"the {most:.3g} " + ("that is possible" if known is None else "before unlearning")
    elsewhere = points["left"].min() <= _MUCH * most
    remedy = "choose lower levels" if elsewhere else "train longer, or at higher learning rates"
    told = f"at these levels no method leaves less than {least:.3g} of {of}, so nothing can be said about them"
    return (f"LITTLE FORGOTTEN: {told}: {remedy}",)


def _outside(table: pd.DataFrame) -> list[str]:
    """Return which levels lie outside what was measured."""
    below = "below all evaluations: the value of the lowest is only a bound, which is compared with no other"
    cases = {"not reached, because no evaluation keeps as much utility": table["value"].isna(), below: table["below"]}
    return [
        f"{level:g} is {reason}: {shortened([f'{method} (seed {seed})' for method, seed in rows.to_numpy()], 6)}"
        for reason, outside in cases.items()
        for level, rows in table[outside].set_index("level")[["method", "seed"]].groupby("level")
    ]


def _edges(points: pd.DataFrame, values: pd.DataFrame) -> list[str]:
    """Return where the best learning rate is at the edge of those that were tried, so that it may be no best."""
    lines: list[str] = []
    edges: dict[str, list[str]] = {"lowest": [], "highest": []}
    for method, own in points.groupby("method", sort=False):
        rates = own["learning_rate"]
        tried = rates.groupby(own["seed"]).agg(_list)
        if tried.nunique() > 1:
            told = "; ".join(f"{these or 'unknown'} (seed {seed})" for seed, these in tried.items())
            lines.append(f"{method} has other learning rates in other seeds: {told}")
        if rates.nunique() < 2:
            lines.append(f"EDGE: {method} has no second learning rate, so its best one is unknown")
            continue
        for edge, rate in zip(edges, (rates.min(), rates.max()), strict=True):
            levels = values.loc[(values["method"] == method) & (values["learning_rate"] == rate), "level"]
            if len(levels):
                edges[edge].append(f"{method} with {_short(rate)} at {_list(levels)}")
    edge_lines = "EDGE: the best learning rate is the {} one tried, so it may be no best: {}"
    return lines + [edge_lines.format(edge, "; ".join(cases)) for edge, cases in edges.items() if cases]


def _list(numbers: pd.Series) -> str:
    return ", ".join(map(_short, sorted(set(numbers.dropna()))))


def _short(number: float) -> str:
    """Return a number as one types it: `0.42`, and `3e-4` for a learning rate."""
    return f"{number:g}" if number >= 0.01 else np.format_float_scientific(number, trim="-", exp_digits=1)
