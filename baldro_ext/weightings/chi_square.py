"""The worst case within a chi-square divergence of even weights."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baldro_ext.weightings.base import Weighting, evenly


@dataclass(frozen=True)
class ChiSquare(Weighting):
    """Worst case in a ball: Q maximises `E_Q[l]` with `(1 / 2n) sum_i (n q_i - 1)^2 <= radius`.

    The weights are `q_i ~ max(0, l_i - eta)`: they rise linearly from a threshold `eta`, below which samples weigh
    nothing. The constraint says that the effective sample size `1 / sum_i q_i^2` is at least `n / (1 + 2 radius)`. For
    small radii it is the KL divergence in nats, so radii of `DonskerVaradhan` are a guide. The weights do not depend on
    the scale of the loss. Source: Namkoong and Duchi, NeurIPS 2016.

    Args:
        radius: Largest divergence from uniform, `>= 0`. 0 is the mean; from `(n / ties - 1) / 2` on, the largest losses
            share the whole weight evenly. The default keeps an effective sample size of at least `n / 2`, which is that
            of `TopGroup(0.5)`.

    Raises:
        ValueError: `radius` is negative or not finite.
    """

    radius: float = 0.5
    setting_names: ClassVar[dict[str, str]] = {"radius": "chi2_radius"}

    def __post_init__(self) -> None:
        if not 0 <= self.radius < math.inf:
            raise ValueError(
                f"radius={self.radius} is not a chi-square divergence: use a number >= 0, such as 0.5 (0 is plain "
                "averaging, (n - 1) / 2 the maximum of n samples)"
            )

    @property
    def is_mean(self) -> bool:
        """Whether the distribution is uniform whatever the losses."""
        return self.radius == 0

    def solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `(n,)` and value `()` for finite float64 losses `(n,)`."""
        if self.is_mean:
            return evenly(torch.ones_like(losses)), losses.mean()
        distances = losses.max() - losses
        ties = int((distances == 0).sum())
        if (1 + 2 * self.radius) * ties >= len(losses):
            weights = evenly(distances == 0)
        else:
            weights = (1 - distances / _reach(distances.sort().values, ties, self.radius)).clamp(min=0)
            weights = weights / weights.sum()
        return weights, (weights * losses).sum()


def _reach(distances: Tensor, ties: int, radius: float) -> float:
    """Return the distance from the largest loss at which the weights become 0.

    Args:
        distances: `(n,)` from the largest loss, ascending; the first `ties` are 0, the others positive.
        ties: Below `n / (1 + 2 * radius)`, so that even weights on the largest losses lie outside the ball.
        radius: Positive.
    """
    n = len(distances)

    def in_ball(k: int) -> bool:
        """Whether the weights that become 0 at `distances[k]` satisfy the constraint."""
        heights = 1 - distances[:k] / distances[k]
        return bool(n * heights.square().sum() <= (1 + 2 * radius) * heights.sum().square())

    # The farther the weights reach, the more even they are. How many samples they reach is thus found by bisection.
    k = bisect_left(range(n), True, lo=ties, key=in_ball)
    # Solve n sum_i q_i^2 = (n / k) (1 + variance / (reach - mean)^2) = 1 + 2 radius, with mean and variance of the k
    # distances. They are scaled, because squares of tiny ones would be 0.
    scale = float(distances[k - 1])
    reached = distances[:k] / scale
    farthest = float(distances[k]) if k < n else math.inf
    slack = (k - n) / n + 2 * radius * k / n  # above 0 up to rounding
    if slack <= 0:
        return farthest
    return min(farthest, scale * float(reached.mean() + reached.std(correction=0) / math.sqrt(slack)))
