"""The metric `forget_balance` in open-unlearning's evaluators.

Importable only where a checkout's `src` folder is on `sys.path`, as it is in its `train.py` and `eval.py`.
"""

from __future__ import annotations

import logging
import math
from typing import Any

from evals.metrics import METRICS_REGISTRY
from evals.metrics.base import unlearning_metric

from baldro_ext import suggest
from baldro_ext.balance import forget_balance as balance

logger = logging.getLogger(__name__)


@unlearning_metric(name="forget_balance")  # type: ignore[untyped-decorator]
def forget_balance(model: Any, **settings: Any) -> dict[str, Any]:
    """Describe how evenly the samples of another metric were forgotten; its worst decile is the aggregated value.

    Settings, as in configs/eval/*/*_balance.yaml: `pre_compute` names the one metric whose samples these are, `value`
    which of their numbers counts, `worst_share` the share of the samples that is the worst.
    """
    (source, result), *others = settings["pre_compute"].items()
    if others:
        raise ValueError(f"forget_balance is of one metric, but pre_compute names {', '.join(settings['pre_compute'])}")
    samples = result["value_by_index"]
    numbers = {int(index): _number(source, entry, settings["value"]) for index, entry in samples.items()}
    known = {index: number for index, number in numbers.items() if math.isfinite(number)}
    if len(known) < len(numbers):
        logger.warning("%d samples of %s have no value and are left out.", len(numbers) - len(known), source)
    found = balance(known, settings["worst_share"])
    return {
        "agg_value": found.worst_mean,
        "mean": found.mean,
        "max": found.largest,
        "coefficient_of_variation": found.variation,
        "worst_share": settings["worst_share"],
        "worst": list(found.worst),
        "left_out": len(numbers) - len(known),
        "value_by_index": {index: {"score": number} for index, number in known.items()},
    }


def register() -> None:
    """Make the metric known to the framework as `handler: forget_balance`."""
    METRICS_REGISTRY[forget_balance.name] = forget_balance


def _number(source: str, entry: dict[str, Any] | None, name: str) -> float:
    """Return a sample's number, not-a-number where it has none; the mean where it has one per answer."""
    if entry is None:
        return math.nan
    if name not in entry:
        raise ValueError(f"forget_balance of {source} has value={name!r}: {suggest.known(name, entry)}")
    numbers = entry[name] if isinstance(entry[name], list) else [entry[name]]
    return math.nan if None in numbers else math.fsum(numbers) / len(numbers)
