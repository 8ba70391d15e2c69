"""Compare runs: one long table of values, and a summary of methods by metrics, each against its baseline."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from baldro_ext.suggest import known, shortened
from baldro_ext.tools.compare import checks
from baldro_ext.tools.compare.discover import find_runs
from baldro_ext.tools.compare.errors import BrokenFileError, MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.fronts import Fronts, fronts
from baldro_ext.tools.compare.methods import RATE_AND_EPOCHS, Method, baselines, by_grid, group, in_order
from baldro_ext.tools.compare.metrics import Metric, default_metrics, metric
from baldro_ext.tools.compare.published import read_published
from baldro_ext.tools.compare.run import RunResult, read_run
from baldro_ext.tools.compare.statistics import interval, paired
from baldro_ext.tools.files import sha256

_COLUMNS = {"method": str, "seed": "Int64", "learning_rate": float, "run": str, "epoch": float}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        methods: In the order of tables and pictures.
        metrics: Those to show.
        evaluations: One row per evaluation, with columns method, seed, learning_rate, run (its folder), epoch (none for
            the final one), and a column per metric.
        baselines: For each method that has one, the label of its baseline.
        worst_share: Share of the samples that counts as worst.
        before: Evaluation of the model before unlearning, if found.
        retain: Evaluation of the model that never saw the forget set, if found.
        mixed: Differences that make the runs incomparable; empty unless allowed.
        unfair: Why a method has another step size than its settings say; empty where none has.
        published: Numbers of others, with columns method, seed, metric, value and source.
        notes: What a reader must know: missing values, unknown facts, versions.
        fronts: The methods at equal utility, if asked for.
        intervals: Whether to show intervals over seeds instead of standard deviations.
    """

    methods: tuple[Method, ...]
    metrics: tuple[Metric, ...]
    evaluations: pd.DataFrame
    baselines: dict[str, str]
    worst_share: float
    before: Evaluation | None
    retain: Evaluation | None
    mixed: tuple[str, ...]
    unfair: tuple[str, ...]
    published: pd.DataFrame
    notes: tuple[str, ...] = ()
    fronts: Fronts | None = None
    intervals: bool = False

    def __getitem__(self, label: str) -> Method:
        return next(method for method in self.methods if method.label == label)

    @property
    def runs(self) -> list[RunResult]:
        """All runs, by method."""
        return [run for method in self.methods for run in method.runs]

    @cached_property
    def table(self) -> pd.DataFrame:
        """Return the final values: a row per run and metric, with columns method, seed, run, metric and value."""
        final = self.evaluations[self.evaluations["epoch"].isna()].drop(columns=["epoch", "learning_rate"])
        return final.melt(["method", "seed", "run"], var_name="metric").dropna(subset="value")

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Return one row per metric to show and method, with these columns.

        mean, sd, n: over seeds, of log10 where the metric is logarithmic; sd divides by n - 1
        low, high: `statistics.interval` of the mean
        baseline: a label, or `None`
        pairs, gain, gain_low, gain_high, better, worse, mark: `statistics.paired` for method and baseline
        """
        rows = []
        for shown, method in itertools.product(self.metrics, self.methods):
            values, baseline = self.values(method.label, shown), self.baselines.get(method.label)
            row = {"metric": shown.key, "method": method.label, "mean": values.mean(), "sd": _sd(values)}
            row |= dict(zip(("low", "high"), interval(values), strict=True))
            row |= {"n": len(values), "baseline": baseline, "mark": ""}
            theirs = self.values(baseline, shown) if baseline and shown.better else values.iloc[:0]
            if len(values) and len(theirs):
                own, other = (it[it.index.notna()] for it in (values, theirs))
                row |= paired(shown.gain(*own.align(other, join="inner")))
            rows.append(row)
        columns = dict.fromkeys([*rows[0], *paired(pd.Series(dtype=float))])
        return pd.DataFrame(rows, columns=list(columns)).set_index(["metric", "method"])

    def values(self, label: str, shown: Metric) -> pd.Series:
        """Return a method's values by seed, on the scale on which the metric is averaged."""
        rows = self.table[(self.table["method"] == label) & (self.table["metric"] == shown.key)]
        return rows.set_index("seed")["value"].map(shown.scaled)


def _sd(values: pd.Series) -> float:
    """Return the sample standard deviation; nan for fewer than two values, or where one is not finite."""
    return float(values.std()) if np.isfinite(values).all() else math.nan


def compare(
    folders: str | Path | Sequence[str | Path],
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    worst_share: float = 0.1,
    allow_mixed: bool = False,
    published: Path | None = None,
    levels: Sequence[float] | None = None,
    utility: str | None = None,
    left: str | None = None,
) -> Comparison:
    """Read runs and put them side by side.

    Args:
        folders: Of trainings or evaluations, folders that contain many, or patterns; one or several.
        baseline: A method's label, `methods.OWN_BASE`, or `None` for NPO or else the first method that is not BalDRO.
        metrics: Keys such as `model_utility` or `forget_Q_A_Prob.worst`; empty for the usual ones.
        worst_share: Share of the samples that counts as worst, in (0, 1].
        allow_mixed: Compare runs that differ in what makes them comparable, and say so in every output.
        published: CSV file with numbers of others to show below: method, metric, value, and optionally seed and source.
        levels: Compare at these levels of the utility, too; empty for a few round ones, `None` for not at all.
        utility: Metric that is held equal then; `None` for the benchmark's own.
        left: Metric that is compared then; `None` for what the worst samples keep.

    Raises:
        NothingToCompareError: No run, or an unknown baseline or metric.
        BrokenFileError: A file of a run cannot be read.
        MixedRunsError: The runs differ in what makes them comparable.
    """
    if not 0 < worst_share <= 1:
        raise NothingToCompareError(
            f"--worst-share {worst_share:g} is not a share: use a number in (0, 1], such as 0.1"
        )
    folders = [folders] if isinstance(folders, str | Path) else folders
    try:
        found = [read_run(run) for run in find_runs(folders)]
    except OSError as error:
        raise BrokenFileError(
            f"cannot read {error.filename}: {error.strerror}. Leave this run out, or make it a file that you may read"
        ) from None
    runs, before, retain = _without_references(found)
    runs, remarks = _finished(runs)
    methods = group(runs)
    grids = by_grid(methods) if levels is not None else []
    mixed = list(dict.fromkeys([*checks.differences(methods), *checks.settings(grids, but=RATE_AND_EPOCHS)]))
    if mixed and not allow_mixed:
        raise MixedRunsError(
            "these runs cannot be compared, because they differ in\n"
            + "".join(f"  {difference}\n" for difference in mixed)
            + "Name runs that agree, or compare them nevertheless with --allow-mixed"
        )
    pairs, alone = baselines(methods, baseline)
    methods = in_order(methods, next(iter(pairs.values()), None))
    evaluations = _evaluations(methods, worst_share)
    comparison = Comparison(
        methods=tuple(methods),
        metrics=_metrics(evaluations, metrics),
        evaluations=evaluations,
        baselines=pairs,
        worst_share=worst_share,
        before=before,
        retain=retain,
        mixed=tuple(mixed),
        unfair=tuple(checks.unfair(runs)),
        published=read_published(published),
    )
    notes = (*remarks, *alone, *checks.missing(comparison), *checks.unknown(runs), *checks.versions(runs))
    comparison = dataclasses.replace(comparison, notes=notes)
    if levels is None:
        return comparison
    return dataclasses.replace(comparison, fronts=fronts(comparison, baseline, levels, utility, left))


def _without_references(runs: list[RunResult]) -> tuple[list[RunResult], Evaluation | None, Evaluation | None]:
    """Return the runs without the model before unlearning and the retain model, and the evaluations of those two."""
    trained = [run for run in runs if run.folders.training]
    starts = {run.facts["model before unlearning"] for run in trained} - {None}
    retain_logs = " ".join(run.facts["retain logs"] or "" for run in trained)
    rest: list[RunResult] = []
    before = retain = None
    for run in runs:
        if run.folders.training is None and run.model in starts:
            before = run.evaluation
        elif run.folders.training is None and _digest(run.evaluation) in retain_logs:
            retain = run.evaluation
        else:
            rest.append(run)
    return rest, before, retain


def _digest(evaluation: Evaluation) -> str:
    file = evaluation.folder / f"{evaluation.benchmark}_EVAL.json"
    return sha256(file.read_bytes())[:12] if file.is_file() else "no file"


def _finished(runs: Sequence[RunResult]) -> tuple[list[RunResult], list[str]]:
    """Return the runs that have an evaluation, and a note about the others.

    Raises:
        NothingToCompareError: There is none.
    """
    reasons: dict[str, list[str]] = {}
    for run in runs:
        if run.unfinished:
            reasons.setdefault(run.unfinished, []).append(run.name)
    left_out = "; ".join(f"{shortened(names, 6)} ({reason})" for reason, names in reasons.items())
    finished = [run for run in runs if not run.unfinished]
    if not finished:
        raise NothingToCompareError(f"none of these runs is evaluated: {left_out or 'there is only a reference model'}")
    return finished, [f"left out: {left_out}"] if left_out else []


def _evaluations(methods: Sequence[Method], worst_share: float) -> pd.DataFrame:
    rows = [
        {"method": method.label, "seed": run.seed, "learning_rate": run.rate, "run": str(run.folders.main),
         "epoch": epoch, **evaluation.values(worst_share)}
        for method in methods
        for run in method.runs
        for epoch, evaluation in [*run.checkpoints.items(), (None, run.evaluation)]
    ]  # fmt: skip
    return pd.DataFrame(rows).astype(_COLUMNS)


def _metrics(evaluations: pd.DataFrame, wanted: Sequence[str]) -> tuple[Metric, ...]:
    offered = set(evaluations[evaluations["epoch"].isna()].dropna(axis="columns", how="all")) - set(_COLUMNS)
    for key in wanted:
        if key not in offered:
            raise NothingToCompareError(f"--metric {key} is in none of the evaluations: {known(key, offered)}")
    if not offered:
        raise NothingToCompareError("none of the evaluations has a value: evaluate again with src/eval.py")
    return tuple(metric(key) for key in wanted or default_metrics(offered) or sorted(offered))
