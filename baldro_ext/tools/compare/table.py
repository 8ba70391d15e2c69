"""Methods by metrics: the values of all runs, and a summary of each method against its baseline."""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from baldro_ext.tools.compare.evaluations import Evaluation
from baldro_ext.tools.compare.methods import Method
from baldro_ext.tools.compare.metrics import Metric
from baldro_ext.tools.compare.recorded import RecordedRun
from baldro_ext.tools.compare.records import read_published
from baldro_ext.tools.compare.statistics import interval, paired

BEFORE, RETAIN = "before unlearning", "retain model"
"""The models that are no method, as they are called in tables and pictures."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Methods by metrics."""

    methods: tuple[Method, ...]  # in the order of tables and pictures
    metrics: tuple[Metric, ...]  # those to show
    values: pd.DataFrame  # a row per run and metric: method, seed, run (its folder), metric and value
    baselines: dict[str, str]  # by the label of each method that has one
    worst_share: float  # share of the samples that counts as worst
    references: dict[str, Evaluation] = field(default_factory=dict)  # `BEFORE` and `RETAIN`, as far as they were found
    published: pd.DataFrame = field(default_factory=read_published)  # of others: method, seed, metric, value and source
    warnings: tuple[str, ...]  # what makes the comparison wrong, unfair or empty
    notes: tuple[str, ...]  # what a reader must know: missing values, unknown facts, versions
    intervals: bool = False  # whether to show intervals over seeds instead of standard deviations

    def __getitem__(self, label: str) -> Method:
        return next(method for method in self.methods if method.label == label)

    @property
    def runs(self) -> list[RecordedRun]:
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
        rows = self.values[(self.values["method"] == label) & (self.values["metric"] == shown.key)]
        return rows.set_index("seed")["value"].map(shown.scaled).astype(float)
