"""One evaluation as the framework writes it: a summary, and values of single samples."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from baldro_ext.balance import forget_balance
from baldro_ext.tools.compare.metrics import STATISTICS, worst_is_largest
from baldro_ext.tools.compare.records import read_json
from baldro_ext.tools.compare.statistics import Values

BENCHMARKS = ("TOFU", "MUSE")


@dataclass(frozen=True)
class Samples:
    """Values of one metric, sample by sample.

    Attributes:
        indices: `(n,)` keys of the samples, as the framework numbers them.
        values: `(n,)`, finite.
    """

    indices: tuple[str, ...]
    values: Values

    def statistic(self, key: str, name: str, worst_share: float) -> float:
        """Return `worst`, `largest` or `variation`; the worst are the smallest of what ought to be high."""
        sign = 1.0 if worst_is_largest(key) else -1.0
        found = forget_balance(
            {index: sign * float(value) for index, value in zip(self.indices, self.values, strict=True)}, worst_share
        )
        if name == "variation":
            return math.nan if found.variation is None else abs(found.variation)
        return sign * (found.worst_mean if name == "worst" else found.largest)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    Attributes:
        folder: Where its files are.
        benchmarks: `TOFU`, `MUSE`: those it has.
        aggregates: By metric.
        samples: By metric; only metrics that are the mean of their samples.
        absent: Why a metric has no value, by metric.
    """

    folder: Path
    benchmarks: tuple[str, ...] = ()
    aggregates: dict[str, float] = field(default_factory=dict)
    samples: dict[str, Samples] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """What `value` has a value of."""
        return [*self.aggregates, *(f"{key}.{name}" for key in self.samples for name in STATISTICS)]

    def value(self, key: str, worst_share: float) -> float | None:
        """Return an aggregate, or with `.worst`, `.largest` or `.variation` a statistic of the samples."""
        if key in self.aggregates:
            return self.aggregates[key]
        base, _, name = key.rpartition(".")
        if base not in self.samples or name not in STATISTICS:
            return None
        value = self.samples[base].statistic(base, name, worst_share)
        return None if math.isnan(value) else value


def is_evaluation(folder: Path) -> bool:
    """Whether the framework has put an evaluation into this folder."""
    return any(folder.glob("*_SUMMARY.json")) or any(folder.glob("*_EVAL.json"))


def read_evaluation(folder: Path) -> Evaluation:
    """Return the evaluation in a folder; a file that is missing leaves its metrics absent.

    Raises:
        BrokenFileError: A file is there and is no JSON object.
    """
    found = Evaluation(folder, tuple(name for name in BENCHMARKS if any(folder.glob(f"{name}_*.json"))))
    for benchmark in found.benchmarks:
        # Both benchmarks have an extraction strength and a privacy leakage.
        prefix = f"{benchmark}:" if len(found.benchmarks) > 1 else ""
        details = folder / f"{benchmark}_EVAL.json"
        content = read_json(details) if details.is_file() else {}
        summary = folder / f"{benchmark}_SUMMARY.json"
        if summary.is_file():
            _aggregates(read_json(summary), summary.name, prefix, found)
        elif content:
            _aggregates({key: _aggregate(entry) for key, entry in content.items()}, details.name, prefix, found)
        for key, entry in content.items():
            samples = _samples(entry)
            if samples is not None:
                found.samples[prefix + key] = samples
            elif isinstance(entry, dict) and entry.get("agg_value", 0) is None:
                found.absent.setdefault(prefix + key, f"null in {details.name}")
    general = folder / "LMEval_SUMMARY.json"
    if general.is_file():
        content = {key: value for key, value in read_json(general).items() if not key.endswith("_stderr")}
        _aggregates(content, general.name, "", found)
    return found


def _aggregate(entry: Any) -> Any:
    return entry.get("agg_value") if isinstance(entry, dict) else None


def _aggregates(content: Mapping[str, Any], file: str, prefix: str, found: Evaluation) -> None:
    for key, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            if value is None:
                found.absent[prefix + key] = f"null in {file}"
        elif math.isfinite(value):
            found.aggregates[prefix + key] = float(value)
        else:
            found.absent[prefix + key] = f"{value} in {file}"


def _samples(entry: Any) -> Samples | None:
    """Return the field of `value_by_index` whose mean is the metric's aggregate.

    An entry can hold several numbers per sample (a probability and a loss, three kinds of ROUGE), and which of them the
    metric is about is said nowhere but in its aggregate.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("value_by_index"), dict):
        return None
    aggregate, rows = entry.get("agg_value"), entry["value_by_index"]
    if not isinstance(aggregate, int | float) or not rows:
        return None
    fields = dict.fromkeys(name for row in rows.values() if isinstance(row, dict) for name in row)
    for name in fields:
        column = {index: row.get(name) for index, row in rows.items() if isinstance(row, dict)}
        numbers = {index: value for index, value in column.items() if _is_number(value)}
        values = np.array(list(numbers.values()), dtype=np.float64)
        if len(values) and math.isclose(values.mean(), aggregate, rel_tol=1e-5, abs_tol=1e-9):
            return Samples(tuple(numbers), values)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def checkpoint_step(folder: Path) -> int | None:
    """Return the step of `checkpoint-<step>`; `None` for other names."""
    found = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(found[1]) if found else None
