"""BalDRO-DV: the worst case within a KL divergence of even weights."""

import logging
import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baldro_ext.weightings.base import Weighting, evenly

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DonskerVaradhan(Weighting):
    """Soft maximum: Q is limited by a penalty on its KL divergence from uniform, or by a bound on it.

    With a temperature `beta` (in units of the loss), Q maximises `E_Q[l] - beta * KL(Q || uniform)`: the weights are
    `softmax(l / beta)` and the value is the Donsker-Varadhan dual `beta * log(mean(exp(l / beta)))`. With a `radius`
    (in nats), the temperature is the one where `KL(Q || uniform) = radius`, and the value is `E_Q[l]`; the weights do
    not depend on the scale of the loss. Source: dual and KL constraint of BalDRO, arXiv:2601.09172.

    Args:
        beta: Temperature, non-zero. `inf` is the mean; the limit at 0 is the maximum. A negative one is a soft minimum,
            which favours samples that are already forgotten (logged as a warning).
        radius: Largest KL divergence from uniform, in nats, `>= 0`. From `log(n / ties)` on, the largest losses share
            the whole weight evenly. With neither, `beta` is 2.0, the paper's best.

    Raises:
        ValueError: Both are set, or one is invalid.
    """

    beta: float | None = None
    radius: float | None = None
    setting_names: ClassVar[dict[str, str]] = {"beta": "dv_beta", "radius": "dv_radius"}

    def __post_init__(self) -> None:
        if self.beta is None and self.radius is None:
            object.__setattr__(self, "beta", 2.0)
        if self.beta is not None and self.radius is not None:
            raise ValueError(
                "exactly one of beta and radius must be set, and both are: set beta (a temperature in units of the "
                "loss, 2.0 in the paper) or radius (in nats, such as 0.5), the other to null"
            )
        if self.beta is not None and (self.beta == 0 or math.isnan(self.beta)):
            raise ValueError(
                f"beta={self.beta} has no worst case: use a positive temperature (2.0 in the paper) or .inf for plain "
                "averaging"
            )
        if self.radius is not None and not 0 <= self.radius < math.inf:
            raise ValueError(
                f"radius={self.radius} is not a KL divergence: use a number of nats >= 0 (0 is plain averaging, log n "
                "the maximum of n samples)"
            )
        if self.beta is not None and self.beta < 0:
            logger.warning(
                "Temperature %s of the worst case is negative: a soft minimum, which favours samples that are already "
                "forgotten. The released BalDRO code has this sign; the paper's worst case needs a positive one.",
                self.beta,
            )

    @property
    def is_mean(self) -> bool:
        """Whether the distribution is uniform whatever the losses."""
        return self.radius == 0 or (self.beta is not None and math.isinf(self.beta))

    def solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `(n,)` and value `()` for finite float64 losses `(n,)`."""
        if self.is_mean:
            return evenly(torch.ones_like(losses)), losses.mean()
        if self.beta is not None:
            weights, value, _ = _tilt(losses, self.beta)
            return weights, value
        assert self.radius is not None
        weights = _weights_at_radius(losses, self.radius)
        return weights, (weights * losses).sum()


def _tilt(losses: Tensor, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the uniform distribution tilted by exp(l / beta), its dual value and its KL to uniform.

    Without overflow or cancellation, for any finite float64 losses and beta != 0.
    """
    low, high = losses.min(), losses.max()
    # Nearly uniform: every quantity is a small difference from the mean, so centre there.
    gentle = bool(high - low <= abs(beta))
    centre = losses.mean() if gentle else (high if beta > 0 else low)
    exponent = ((losses - centre) / beta).clamp(min=-1e4)  # exp is 0 below; 0 * -inf is NaN
    weights = donsker_varadhan_weights(losses - centre, beta)
    log_mean = exponent.expm1().mean().log1p() if gentle else exponent.exp().mean().log()
    return weights, centre + beta * log_mean, weights @ exponent - log_mean


def _weights_at_radius(losses: Tensor, radius: float) -> Tensor:
    """Return the tilt whose KL to uniform is `radius`, by bisection: KL falls as the temperature rises."""
    largest = losses == losses.max()
    if radius >= math.log(len(losses) / int(largest.sum())):
        return evenly(largest)
    spread = float(losses.max() - losses.min())
    gap = float(losses.max() - losses[~largest].max())
    # At the low end all but the largest underflow to zero. At the high end KL <= radius, because the variance under
    # any tilt is at most spread^2 / 4.
    low, high = math.log(max(gap / 800, sys.float_info.min)), math.log(spread / math.sqrt(8 * radius))
    while high - low > 1e-14 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        _, _, kl = _tilt(losses, math.exp(middle))
        if kl > radius:
            low = middle
        else:
            high = middle
    return _tilt(losses, math.exp(high))[0]


# The formula, as in the pull request of `baldro upstream`; tests/test_upstream.py compares the two.


def donsker_varadhan_weights(losses: Tensor, beta: float) -> Tensor:
    """Return weights `(n,)` of sum 1, the gradient of `beta * log(mean(exp(losses / beta)))`."""
    return (losses / beta).softmax(0)
