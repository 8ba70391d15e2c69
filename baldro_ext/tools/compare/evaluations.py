"""One evaluation as the framework writes it: a summary, and values of single samples."""

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from baldro_ext.balance import forget_balance
from baldro_ext.errors import BaldroError
from baldro_ext.tools.compare.metrics import metric
from baldro_ext.tools.compare.records import is_number, mapping, printable, read_json


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured, by metric."""

    folder: Path
    benchmark: str = ""  # TOFU, MUSE or none
    aggregates: dict[str, float] = field(default_factory=dict)
    samples: dict[str, pd.Series] = field(default_factory=dict)  # finite, `(n,)` by sample; of metrics that are a mean

    def values(self, worst_share: float) -> dict[str, float]:
        """Return all values: the aggregates, and `.worst` and `.largest` of per-sample metrics."""
        values: dict[str, float] = {}
        for key, samples in self.samples.items():
            # The worst samples of a metric that should be high are those with the smallest values.
            sign = -1.0 if metric(key).better == "higher" else 1.0
            balance = forget_balance((sign * samples).to_dict(), worst_share)
            values |= {f"{key}.worst": sign * balance.worst_mean, f"{key}.largest": sign * balance.largest}
        return values | self.aggregates


def is_evaluation(folder: Path) -> bool:
    """Whether the framework has written an evaluation into this folder."""
    return os.path.isdir(folder) and any(name.endswith(("_SUMMARY.json", "_EVAL.json")) for name in os.listdir(folder))


def checkpoint_step(folder: Path) -> int | None:
    """Return the step of `checkpoint-<step>`; `None` for other names."""
    match = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    return int(match[1]) if match else None


def read_evaluation(folder: Path) -> Evaluation:
    """Return the evaluation in a folder; metrics of a missing file are absent."""
    benchmarks = [name for name in ("TOFU", "MUSE") if any(folder.glob(f"{name}_*.json"))]
    if len(benchmarks) > 1:
        raise BaldroError(f"{folder} has evaluations of TOFU and MUSE: move one of them to a folder of its own")
    benchmark = benchmarks[0] if benchmarks else ""
    names = (f"{benchmark}_EVAL", f"{benchmark}_SUMMARY", "LMEval_SUMMARY")
    details, summary, general = (read_json(folder / f"{name}.json") for name in names)
    values = summary or {key: mapping(entry).get("agg_value") for key, entry in details.items()}
    values |= {key: value for key, value in general.items() if not key.endswith("_stderr")}
    samples = {printable(key): _samples(mapping(entry)) for key, entry in details.items()}
    return Evaluation(
        folder,
        benchmark,
        {printable(key): float(value) for key, value in values.items() if is_number(value)},
        {key: values for key, values in samples.items() if len(values)},
    )


def _samples(entry: dict[str, Any]) -> pd.Series:
    """Return the field of `value_by_index` whose mean is the metric's aggregate; empty where there is none.

    An entry can hold several numbers per sample (a probability and a loss, three kinds of ROUGE), and only the
    aggregate tells which of them the metric is about.
    """
    aggregate, rows = entry.get("agg_value"), mapping(entry.get("value_by_index"))
    if not is_number(aggregate):
        return pd.Series(dtype=float)
    table = pd.DataFrame.from_dict({index: row for index, row in rows.items() if isinstance(row, dict)}, orient="index")
    for name in table:
        values = table[name][table[name].map(is_number)].astype(float)
        if math.isclose(values.mean(), aggregate, rel_tol=1e-5, abs_tol=1e-9):
            return values
    return pd.Series(dtype=float)
