"""Statistics of how evenly the samples of a forget set were forgotten, which a mean over them hides.

Takes one number per sample, larger = more remembered: probability, ROUGE, extraction strength. Needs no framework;
`baldro_ext.open_unlearning.metrics` makes it a metric of the framework.
"""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Sample = TypeVar("Sample", bound=Hashable)


@dataclass(frozen=True)
class Balance(Generic[Sample]):
    """Statistics of one number per sample, larger = more remembered.

    Attributes:
        mean: Mean over all samples.
        worst_mean: Mean over the worst share of the samples.
        largest: Largest number.
        variation: Coefficient of variation, the standard deviation over the samples divided by their mean;
            0 if all are forgotten equally, `None` if the mean is 0.
        worst: The samples of the worst share, worst first; ties keep their order.
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
        ValueError: There is no sample, a value is not finite, or `worst_share` is not in (0, 1].
    """
    if not 0 < worst_share <= 1:
        raise ValueError(f"worst_share={worst_share} is not a share of samples: use a number in (0, 1], such as 0.1")
    if not values:
        raise ValueError("there are no samples to compute the balance of")
    if nonfinite := [sample for sample, value in values.items() if not math.isfinite(value)]:
        raise ValueError(f"samples {nonfinite[:5]} have no finite value: leave them out and report how many")
    ordered = sorted(values, key=lambda sample: values[sample], reverse=True)
    # 0.29 * 100 is 28.999999999999996 in floating point.
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
