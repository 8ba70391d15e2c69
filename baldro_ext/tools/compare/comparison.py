"""Compare runs: one long table of values, and a summary of methods by metrics, each against its baseline."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from baldro_ext.errors import BaldroError, UsageError
from baldro_ext.suggest import chosen, shortened
from baldro_ext.tools.compare import checks
from baldro_ext.tools.compare.discover import find_runs
from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.fronts import Fronts, fronts
from baldro_ext.tools.compare.methods import Method, baselines, group, in_order
from baldro_ext.tools.compare.metrics import Metric, default_metrics, metric
from baldro_ext.tools.compare.records import read_published
from baldro_ext.tools.compare.run import Run
from baldro_ext.tools.compare.statistics import interval, paired
from baldro_ext.tools.files import sha256

BEFORE, RETAIN = "before unlearning", "retain model"
"""The models that are no method, as they are called in tables and pictures."""
_COLUMNS = {"method": str, "seed": "Int64", "learning_rate": float, "run": str, "epoch": float}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side."""

    methods: tuple[Method, ...]  # in the order of tables and pictures
    metrics: tuple[Metric, ...]  # those to show
    table: pd.DataFrame  # final values, a row per run and metric: method, seed, run (its folder), metric and value
    # The same during training, too, a row per evaluation: learning_rate, epoch (none for the final one), and metrics.
    evaluations: pd.DataFrame
    baselines: dict[str, str]  # by the label of each method that has one
    worst_share: float  # share of the samples that counts as worst
    references: dict[str, Evaluation]  # `BEFORE` and `RETAIN`, as far as they were found
    warnings: tuple[str, ...]  # what makes the comparison wrong, unfair or empty
    published: pd.DataFrame  # numbers of others: method, seed, metric, value and source
    notes: tuple[str, ...] = ()  # what a reader must know: missing values, unknown facts, versions
    fronts: Fronts | None = None  # the methods at equal utility, if asked for
    intervals: bool = False  # whether to show intervals over seeds instead of standard deviations

    def __getitem__(self, label: str) -> Method:
        return next(method for method in self.methods if method.label == label)

    @property
    def runs(self) -> list[Run]:
        """All runs, by method."""
        return [run for method in self.methods for run in method.runs]

    @property
    def before(self) -> list[Evaluation]:
        """Evaluations of the model before unlearning: by itself, or before the first step of the trainings."""
        by_itself = [self.references[BEFORE]] if BEFORE in self.references else []
        return by_itself or [run.checkpoints[0] for run in self.runs if 0 in run.checkpoints]

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
            values, baseline = self._values(method.label, shown), self.baselines.get(method.label)
            low, high = interval(values)
            sd = values.replace(-math.inf, math.nan).std(skipna=False)
            gains = pd.Series(dtype=float)
            if baseline and shown.better:
                own, other = (it[it.index.notna()] for it in (values, self._values(baseline, shown)))
                gains = shown.gain(*own.align(other, join="inner"))
            row = {"metric": shown.key, "method": method.label, "baseline": baseline, **paired(gains)}
            rows.append({**row, "mean": values.mean(), "sd": sd, "low": low, "high": high, "n": len(values)})
        return pd.DataFrame(rows).set_index(["metric", "method"])

    def _values(self, label: str, shown: Metric) -> pd.Series:
        """Return a method's values by seed, on the scale on which the metric is averaged."""
        rows = self.table[(self.table["method"] == label) & (self.table["metric"] == shown.key)]
        return rows.set_index("seed")["value"].map(shown.scaled).astype(float)


def compare(
    folders: str | Path | Sequence[str | Path],
    baseline: str = "",
    metrics: Sequence[str] = (),
    worst_share: float = 0.1,
    allow_mixed: bool = False,
    published: Path | None = None,
    levels: Sequence[float] | None = None,
    utility: str = "",
    left: str = "",
) -> Comparison:
    """Read runs and put them side by side.

    Args:
        folders: Of trainings or evaluations, folders that contain many, or patterns; one or several.
        baseline: A method's label, `methods.OWN_BASE`, or empty for NPO or else the first method that is not BalDRO.
        metrics: Keys such as `model_utility` or `forget_Q_A_Prob.worst`; empty for the usual ones.
        worst_share: Share of the samples that counts as worst, in (0, 1].
        allow_mixed: Compare runs that differ in what makes them comparable, and say so in every output.
        published: CSV file with numbers of others to show below: method, metric, value, and optionally seed and source.
        levels: Compare at these levels of the utility, too; empty for a few round ones, `None` for not at all.
        utility: Metric that is held equal then; empty for the benchmark's own.
        left: Metric that is compared then; empty for what the worst samples keep.

    Raises:
        UsageError: No run, or an unknown baseline or metric.
        BaldroError: A file of a run cannot be read.
        RefusedError: The runs differ in what makes them comparable.
    """
    if not 0 < worst_share <= 1:
        raise UsageError(f"--worst-share {worst_share:g} is not a share: use one in (0, 1], such as 0.1")
    try:
        found = [Run(*run) for run in find_runs([folders] if isinstance(folders, str | Path) else folders)]
    except OSError as error:
        raise BaldroError(
            f"cannot read {error.filename}: {error.strerror}. Leave this run out, or make it a file that you may read"
        ) from None
    found, references = _without_references(found)
    runs = [run for run in found if not run.unfinished]
    unfinished = [f"{names} ({why})" for why, names in checks.by_reason((it.unfinished, it) for it in found).items()]
    if not runs:
        told = "; ".join(unfinished) or "there is only a reference model"
        raise UsageError(f"none of these runs is evaluated: {told}")
    methods = group(runs)
    warnings = checks.warnings(methods, across_rates=levels is not None, allow_mixed=allow_mixed)
    pairs, alone = baselines(methods, baseline)
    methods = in_order(methods, next(iter(pairs.values()), None))
    evaluations = pd.DataFrame(
        {"method": method.label, "seed": run.seed, "learning_rate": run.learning_rate, "run": str(run.folder),
         "epoch": epoch, **evaluation.values(worst_share)}
        for method in methods
        for run in method.runs
        for epoch, evaluation in [*run.checkpoints.items(), (None, run.evaluation)]
    ).astype(_COLUMNS)  # fmt: skip
    final = evaluations[evaluations["epoch"].isna()].drop(columns=["epoch", "learning_rate"])
    table = final.melt(["method", "seed", "run"], var_name="metric").dropna(subset="value")
    if table.empty:
        raise UsageError("none of the evaluations has a value: evaluate again with src/eval.py")
    offered = set(table["metric"])
    shown = [metric(chosen(key, offered, "--metric")) for key in metrics or default_metrics(offered) or sorted(offered)]
    missing = _missing([run.name for method in methods for run in method.runs], final, shown)
    left_out = [f"left out: {'; '.join(unfinished)}"] if unfinished else []
    comparison = Comparison(
        methods=tuple(methods),
        metrics=tuple(shown),
        table=table,
        evaluations=evaluations,
        baselines=pairs,
        worst_share=worst_share,
        references=references,
        warnings=tuple(warnings),
        published=read_published(published),
        notes=(*left_out, *alone, *missing, *checks.unknown(runs), *checks.versions(runs)),
    )
    if levels is None:
        return comparison
    return dataclasses.replace(comparison, fronts=fronts(comparison, baseline, levels, utility, left))


def _without_references(runs: Sequence[Run]) -> tuple[list[Run], dict[str, Evaluation]]:
    """Return the runs without the model before unlearning and the retain model, and the evaluations of those two."""
    starts = {run.facts["model before unlearning"] for run in runs} - {None}
    retain_logs = " ".join(run.facts["retain logs"] or "" for run in runs)
    references: dict[str, Evaluation] = {}
    rest = []
    for run in runs:
        file = run.evaluation.folder / f"{run.evaluation.benchmark}_EVAL.json"
        if run.training or run.trainer:  # the latter where the training was deleted
            rest.append(run)
        elif run.model in starts:
            references[BEFORE] = run.evaluation
        elif file.is_file() and sha256(file.read_bytes())[:12] in retain_logs:
            references[RETAIN] = run.evaluation
        else:
            rest.append(run)
    return rest, {name: references[name] for name in (BEFORE, RETAIN) if name in references}


def _missing(names: Sequence[str], final: pd.DataFrame, shown: Sequence[Metric]) -> list[str]:
    """Return which runs lack shown metrics, and which have no seed; `final` has a row per name."""
    lacking = {f"no {it.key}, because not evaluated or null, for": final[it.key].isna() for it in shown}
    lacking["in no test, because no seed is recorded:"] = final["seed"].isna()
    lists = {told: list(itertools.compress(names, lacks)) for told, lacks in lacking.items()}
    return [f"{told} {shortened(those, 6)}" for told, those in lists.items() if those]
