"""The comparison itself: methods by metrics, each against its baseline."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from baldro_ext.suggest import known
from baldro_ext.tools.compare import comparability, places
from baldro_ext.tools.compare.collect import Run, read_run
from baldro_ext.tools.compare.comparability import Difference
from baldro_ext.tools.compare.errors import MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.evaluations import Evaluation, read_evaluation
from baldro_ext.tools.compare.grouping import Group, group, in_order, inner_differences
from baldro_ext.tools.compare.metrics import Metric, default_metrics, metric
from baldro_ext.tools.compare.statistics import Paired, Spread, paired, spread

OWN_BASE = "base"
"""As a baseline: each BalDRO method against the framework's own trainer of its forget loss."""


@dataclass(frozen=True)
class Options:
    """What a comparison may be asked for.

    Attributes:
        baseline: A method's label, `OWN_BASE`, or `None` to choose one.
        metrics: Keys, or empty for the usual ones.
        worst_share: Of the samples, in (0, 1].
        allow_mixed: Compare runs that differ in what makes them comparable, and say so everywhere.
        before: Folder of an evaluation of the model before unlearning.
    """

    baseline: str | None = None
    metrics: tuple[str, ...] = ()
    worst_share: float = 0.1
    allow_mixed: bool = False
    before: str | None = None


@dataclass(frozen=True)
class Cell:
    """One metric of one method.

    Attributes:
        spread: On the metric's scale; `None` where no run has a value.
        expected: Number of runs.
        paired: Against the baseline; `None` for the baseline itself and where there is none.
    """

    spread: Spread | None
    expected: int
    paired: Paired | None

    @property
    def mark(self) -> str:
        """▲ better or ▼ worse in each of at least two seeds; △ ▽ on average only; = equal; empty without a verdict."""
        if self.paired is None or self.paired.gain is None:
            return ""
        seeds, gain = len(self.paired.seeds), self.paired.gain
        if gain == 0:
            return "="
        if seeds > 1 and max(self.paired.better, self.paired.worse) == seeds:
            return "▲" if gain > 0 else "▼"
        return "△" if gain > 0 else "▽"


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        groups: The methods.
        metrics: The columns.
        baselines: Label of the baseline by label of the method, for methods that have one.
        options: As asked.
        before: Evaluation of the model before unlearning, if there is one of its own.
        retain: Evaluation of the model that never saw the forget set, if it is among the arguments.
        mixed: What differs although it should not; empty unless allowed.
        notes: What a reader must know: missing values, unknown facts, the choice of the baseline.
    """

    groups: tuple[Group, ...]
    metrics: tuple[Metric, ...]
    baselines: dict[str, str]
    options: Options
    before: Evaluation | None = None
    retain: Evaluation | None = None
    mixed: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, label: str) -> Group:
        return next(one for one in self.groups if one.label == label)

    def value(self, run: Run, column: Metric) -> float | None:
        """Return a run's value as the framework gives it, or `None`."""
        return run.evaluation.value(column.key, self.options.worst_share)

    def cell(self, one: Group, column: Metric) -> Cell:
        """Return a method's entry in one of the columns."""
        return self._cells[one.label, column.key]

    def mean(self, one: Group, column: Metric, seeds: Sequence[int]) -> float | None:
        """Return the mean over some seeds, on the metric's scale; over all runs where there are none to choose."""
        values = [value for seed, value in self._scaled(one, column) if not seeds or seed in seeds]
        found = spread(values)
        return found.mean if found else None

    @cached_property
    def _cells(self) -> dict[tuple[str, str], Cell]:
        return {(one.label, column.key): self._cell(one, column) for one in self.groups for column in self.metrics}

    def _cell(self, one: Group, column: Metric) -> Cell:
        values = self._scaled(one, column)
        against = self.baselines.get(one.label)
        result = self._against(one, self[against], column) if against and column.better and values else None
        return Cell(spread([value for _, value in values]), len(one.runs), result)

    def _scaled(self, one: Group, column: Metric) -> list[tuple[int | None, float]]:
        values = [(run.seed, self.value(run, column)) for run in one.runs]
        return [(seed, column.scaled(value)) for seed, value in values if value is not None]

    def _against(self, one: Group, baseline: Group, column: Metric) -> Paired | None:
        own, other = self._scaled(one, column), self._scaled(baseline, column)
        theirs = {seed: value for seed, value in other if seed is not None}
        gains = {seed: column.gain(value, theirs[seed]) for seed, value in own if seed is not None and seed in theirs}
        return paired(gains) if other else None


def compare(arguments: Sequence[str], options: Options | None = None) -> Comparison:
    """Read the runs that the arguments name, and put them side by side.

    Raises:
        NothingToCompareError: No run, or an unknown baseline or metric.
        BrokenFileError: A file of a run cannot be read.
        MixedRunsError: The runs differ in what makes them comparable, and that is not allowed.
    """
    options = options or Options()
    if not 0 < options.worst_share <= 1:
        raise NothingToCompareError(
            f"--worst-share {options.worst_share:g} is no share of the samples: use one in (0, 1], such as 0.1"
        )
    runs, before, retain = _set_references_aside([read_run(place) for place in places.find(arguments)])
    if options.before is not None:
        before = _evaluation_before(options.before)
    groups = group(runs)
    mixed = (*comparability.differences(runs), *inner_differences(groups))
    if mixed and not options.allow_mixed:
        raise MixedRunsError(
            "these runs cannot be put side by side, for they differ in\n"
            + "".join(f"  {difference}\n" for difference in mixed)
            + "Name runs that agree, or compare them nevertheless with --allow-mixed"
        )
    baselines, choice = _baselines(groups, options.baseline)
    groups = in_order(groups, next(iter(baselines.values()), None))
    found = Comparison(tuple(groups), _columns(runs, options), baselines, options, before, retain, mixed)
    notes = (*choice, *_gaps(found), *comparability.unknown(runs), *comparability.versions(runs))
    return dataclasses.replace(found, notes=notes)


def _set_references_aside(runs: list[Run]) -> tuple[list[Run], Evaluation | None, Evaluation | None]:
    """Split off evaluations of the model before unlearning and of the one that the retain logs are of."""
    trained = [run for run in runs if run.place.training]
    models = {run.facts["model before unlearning"] for run in trained}
    logs = " ".join(run.facts.get("retain logs") or "" for run in trained)
    rest: list[Run] = []
    before = retain = None
    for run in runs:
        if run.place.training is None and run.evaluated in models - {None}:
            before = run.evaluation
        elif run.place.training is None and any(digest in logs for digest in _digests(run.evaluation)):
            retain = run.evaluation
        else:
            rest.append(run)
    return rest, before, retain


def _digests(evaluation: Evaluation) -> list[str]:
    files = (evaluation.folder / f"{name}_EVAL.json" for name in evaluation.benchmarks)
    return [hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files if file.is_file()]


def _evaluation_before(argument: str) -> Evaluation:
    found = places.find([argument])
    if len(found) != 1 or found[0].evaluation is None:
        raise NothingToCompareError(f"--before {argument} is not one evaluation: name its folder, such as saves/eval/x")
    return read_evaluation(found[0].evaluation)


def _baselines(groups: Sequence[Group], wanted: str | None) -> tuple[dict[str, str], list[str]]:
    labels = [one.label for one in groups]
    if wanted == OWN_BASE and OWN_BASE not in labels:
        pairs = {one.label: one.base for one in groups if one.base is not None and one.base in labels}
        lonely = [one.label for one in groups if one.is_robust and one.label not in pairs]
        return pairs, [
            f"no run of the own base of {', '.join(lonely)}, so nothing to compare it with"
        ] if lonely else []
    if wanted is not None and wanted not in labels:
        raise NothingToCompareError(f"--baseline {wanted} is none of the methods: {known(wanted, labels)}")
    plain = [one.label for one in groups if not one.is_robust]
    chosen = wanted or ("NPO" if "NPO" in labels else next(iter(plain), None))
    if chosen is None or len(groups) < 2:
        return {}, ["no baseline, so no marks: name one with --baseline"] if len(groups) > 1 else []
    return {label: chosen for label in labels if label != chosen}, []


def _columns(runs: Sequence[Run], options: Options) -> tuple[Metric, ...]:
    offered = {key for run in runs for key in run.evaluation.keys}
    for wanted in options.metrics:
        if wanted not in offered:
            raise NothingToCompareError(f"--metric {wanted} is in none of the evaluations: {known(wanted, offered)}")
    keys = list(options.metrics) or default_metrics(offered) or sorted(offered)
    if not keys:
        raise NothingToCompareError(
            "none of these runs has an evaluation: run src/eval.py on their models first\n"
            + "\n".join(gap for run in runs for gap in run.gaps)
        )
    return tuple(metric(key) for key in keys)


def _gaps(found: Comparison) -> list[str]:
    lines: list[str] = []
    for one in found.groups:
        for run in one.runs:
            lines += run.gaps
            absent = [column.key for column in found.metrics if found.value(run, column) is None]
            if absent and run.source != "-":
                reasons = {key: run.evaluation.absent.get(key, "not evaluated") for key in absent}
                told = ", ".join(f"{key} ({reason})" for key, reason in reasons.items())
                lines.append(f"{run.name} lacks {told}")
    return list(dict.fromkeys(lines))
