"""How evenly the samples of a forget set were forgotten: what a mean over them hides.

Takes one number per sample, larger = more remembered: probability, ROUGE, extraction strength. Pure, without the
framework; `baldro_ext.open_unlearning.metrics` puts it into the framework's evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Sample = TypeVar("Sample", bound=Hashable)


@dataclass(frozen=True)
class Balance(Generic[Sample]):
    """The distribution of one number per sample, seen from its worst end.

    Attributes:
        mean: Over all samples.
        worst_mean: Over the worst share of them.
        largest: The largest.
        variation: Coefficient of variation, the standard deviation over the samples divided by their mean;
            0 means that all are forgotten alike. `None` where the mean is 0.
        worst: The samples of the worst share, the worst first; of equals the earlier first.
    """

    mean: float
    worst_mean: float
    largest: float
    variation: float | None
    worst: tuple[Sample, ...]


def forget_balance(values: Mapping[Sample, float], worst_share: float = 0.1) -> Balance[Sample]:
    """Describe how evenly samples were forgotten.

    Args:
        values: One finite number per sample, larger = more remembered.
        worst_share: Share of the samples that counts as worst, in (0, 1]; rounded down to whole samples, at least 1.

    Raises:
        ValueError: There is no sample, a value that is not finite, or a share that is none.
    """
    if not 0 < worst_share <= 1:
        raise ValueError(f"worst_share={worst_share} is no share of the samples: use a number in (0, 1], as 0.1")
    if not values:
        raise ValueError("there are no samples to describe the balance of")
    if strange := [sample for sample, value in values.items() if not math.isfinite(value)]:
        raise ValueError(f"samples {strange[:5]} have no finite value: leave them out, and say so")
    ordered = sorted(values, key=lambda sample: values[sample], reverse=True)
    # 0.29 * 100 is 28.999999999999996.
    worst = ordered[: max(1, math.floor(worst_share * len(ordered) + 1e-9))]
    mean = math.fsum(values.values()) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values.values()) / len(values))
    return Balance(
        mean=mean,
        worst_mean=math.fsum(values[sample] for sample in worst) / len(worst),
        largest=values[ordered[0]],
        variation=deviation / mean if mean else None,
        worst=tuple(worst),
    )
