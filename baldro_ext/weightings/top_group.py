"""BalDRO-G: the worst case with a limit on each weight, which is the mean over the worst group."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from baldro_ext.weightings.base import Weighting


@dataclass(frozen=True)
class TopGroup(Weighting):
    """Worst group: even weights on the share `fraction` of samples with the largest losses.

    This is the exact conditional value at risk: if `fraction * n` is not an integer, the boundary sample takes the
    remainder; samples tied at the boundary share it. Source: BalDRO-G, arXiv:2601.09172.

    Args:
        fraction: Share of the samples, in (0, 1]. 1 is the mean; the limit at 0 is the maximum.
        size: `exact`, or `floor` for a whole number of samples, `max(1, int(fraction * n))`, as in the released code.

    Raises:
        ValueError: `fraction` or `size` is invalid.
    """

    fraction: float = 0.5
    size: Literal["exact", "floor"] = "exact"
    setting_names: ClassVar[dict[str, str]] = {"fraction": "top_fraction", "size": "group_size"}

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"fraction={self.fraction} is not a share of the samples: use a number in (0, 1], such as 0.5 "
                "(the paper's) or 1 for plain averaging"
            )
        if self.size not in ("exact", "floor"):
            raise ValueError(f"size={self.size!r} is unknown: use 'exact' or 'floor'")

    @property
    def is_mean(self) -> bool:
        """Whether the distribution is uniform whatever the losses."""
        return self.fraction == 1

    @property
    def share(self) -> float:
        """The share of samples with a weight above 0, up to the boundary sample and those tied with it."""
        return self.fraction

    def solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `(n,)` and value `()` for finite float64 losses `(n,)`."""
        fraction = self.fraction
        if self.size == "floor":
            fraction = int(round(fraction * len(losses), 9)) / len(losses)
        weights = top_group_weights(losses, fraction)
        return weights, (weights * losses).sum()


# The formula, as in the pull request of `baldro upstream`; tests/test_upstream.py compares the two.


def top_group_weights(losses: Tensor, fraction: float) -> Tensor:
    """Return weights `(n,)` of sum 1, even in the group with the largest losses."""
    # Rounded, because 0.1 * 30 is 3.0000000000000004 in floating point
    size = max(1.0, round(fraction * len(losses), 9))
    boundary = losses.sort(descending=True).values[math.ceil(size) - 1 :][:1]
    above, tied = (losses > boundary).to(losses), (losses == boundary).to(losses)
    return (above + tied * (size - above.sum()) / tied.sum()) / size
