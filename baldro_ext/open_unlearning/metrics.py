"""The metric `forget_balance` in open-unlearning's evaluators.

Can be imported only with a checkout's `src` folder on `sys.path`, as in its `train.py` and `eval.py`.
"""

import logging
import math
from typing import Any

from evals.metrics import METRICS_REGISTRY
from evals.metrics.base import unlearning_metric

from baldro_ext import suggest
from baldro_ext.balance import forget_balance as balance
from baldro_ext.open_unlearning.attacks import leak_at_k, rounded

logger = logging.getLogger(__name__)


@unlearning_metric(name="forget_balance")  # type: ignore[untyped-decorator]
def forget_balance(model: Any, **settings: Any) -> dict[str, Any]:
    """Compute how evenly samples were forgotten by another metric; the aggregate is the mean of the worst share.

    Args:
        model: Not used.
        settings: The keys of configs/eval/*/*_balance.yaml: `pre_compute`, the metric that provides the samples;
            `value`, which of a sample's numbers counts; `worst_share`, the share of the samples that counts as worst.
    """
    (source, evaluation), *others = settings["pre_compute"].items()
    if others:
        raise ValueError(f"forget_balance takes one metric, but pre_compute has {', '.join(settings['pre_compute'])}")
    samples = evaluation["value_by_index"]
    numbers = {int(index): _number(source, entry, settings["value"]) for index, entry in samples.items()}
    finite = {index: number for index, number in numbers.items() if math.isfinite(number)}
    if len(finite) < len(numbers):
        logger.warning("%d samples of %s have no value and are left out.", len(numbers) - len(finite), source)
    result = balance(finite, settings["worst_share"])
    return {
        "agg_value": result.worst_mean,
        "mean": result.mean,
        "max": result.largest,
        "coefficient_of_variation": result.variation,
        "worst_share": settings["worst_share"],
        "worst": list(result.worst),
        "left_out": len(numbers) - len(finite),
        "value_by_index": {index: {"score": number} for index, number in finite.items()},
    }


def register() -> None:
    """Register the extension's metrics with the framework, each as `handler: <its name>`."""
    METRICS_REGISTRY.update({metric.name: metric for metric in (forget_balance, leak_at_k, rounded)})


def _number(source: str, entry: dict[str, Any] | None, name: str) -> float:
    """Return a sample's number: the mean if it has one per answer, NaN if it has none."""
    if entry is None:
        return math.nan
    if name not in entry:
        raise ValueError(f"forget_balance of {source} has no value={name!r}: {suggest.known(name, entry)}")
    numbers = entry[name] if isinstance(entry[name], list) else [entry[name]]
    return math.nan if None in numbers else math.fsum(numbers) / len(numbers)
