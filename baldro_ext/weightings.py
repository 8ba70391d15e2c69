"""Worst-case distributions over per-sample losses: the inner maximum of robust optimisation.

Among distributions Q close to uniform, the adversary picks the one that maximises the mean E_Q[l] of the losses
l_1..l_n. This Q is also the gradient of the maximum with respect to the losses (Danskin's theorem), so a weighting
computes two things: the weights and the value.
"""

from __future__ import annotations

import logging
import math
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


class WorstCase(NamedTuple):
    """The worst case of n losses.

    Attributes:
        value: `()`, with the dtype and device of the losses; its gradient with respect to them is `weights`.
        weights: `(n,)`, non-negative, sum 1, detached, with the same dtype and device.
    """

    value: Tensor
    weights: Tensor


class Weighting(ABC):
    """A worst-case distribution over n samples, as a function of their losses.

    Losses are `(n,)`, float32 or float64, larger = less forgotten, on any device. The computation runs in float64 on
    the CPU, since n is small and one transfer costs less than many kernels.
    """

    @property
    @abstractmethod
    def is_mean(self) -> bool:
        """Whether the distribution is uniform whatever the losses."""

    @property
    def share(self) -> float:
        """The share of samples with a weight above 0, or 1 if it depends on the losses."""
        return 1.0

    @abstractmethod
    def _solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `(n,)` and value `()` for finite float64 losses `(n,)`."""

    def worst_case(self, losses: Tensor) -> WorstCase:
        """Solve the inner maximum.

        Args:
            losses: `(n,)` float32 or float64, larger = less forgotten.

        Raises:
            ValueError: `losses` is empty, not one-dimensional, or not finite (the message names the positions).
            TypeError: `losses` is neither float32 nor float64.
        """
        weights, value = (exact.to(losses.dtype).to(losses.device) for exact in self._solve(_float64(losses)))
        return WorstCase(with_gradient(losses, value, weights), weights)

    def weights(self, losses: Tensor) -> Tensor:
        """Return only the weights of `worst_case(losses)`: `(n,)`, sum 1, detached."""
        return self.worst_case(losses.detach()).weights

    def __call__(self, losses: Tensor) -> Tensor:
        """Return only the value of `worst_case(losses)`: a differentiable scalar."""
        return self.worst_case(losses).value


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
            the whole weight evenly.

    Raises:
        ValueError: Both or neither of the two are set, or one is invalid.
    """

    beta: float | None = None
    radius: float | None = None

    def __post_init__(self) -> None:
        if (self.beta is None) == (self.radius is None):
            both = "both are" if self.beta is not None else "neither is"
            raise ValueError(
                f"exactly one of beta and radius must be set, and {both}: set beta (a temperature in units of the "
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

    def _solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        if self.is_mean:
            return _evenly(torch.ones_like(losses)), losses.mean()
        if self.beta is not None:
            tilted = _tilt(losses, self.beta)
            return tilted.weights, tilted.value
        assert self.radius is not None
        weights = _weights_at_radius(losses, self.radius)
        return weights, (weights * losses).sum()


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

    def _solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        fraction = self.fraction
        if self.size == "floor":
            fraction = int(round(fraction * len(losses), 9)) / len(losses)
        weights = top_group_weights(losses, fraction)
        return weights, (weights * losses).sum()


def with_gradient(losses: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """Return the scalar `value` with the given `gradient` `(n,)` with respect to `losses` `(n,)`."""
    result: Tensor = _Danskin.apply(losses, value, gradient)  # type: ignore[no-untyped-call]
    return result


class _Danskin(torch.autograd.Function):
    """A value whose gradient is given: the maximising distribution."""

    @staticmethod
    def forward(ctx: Any, losses: Tensor, value: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(weights)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        return grads[0] * weights, None, None


class _Tilted(NamedTuple):
    """The uniform distribution tilted by exp(l / beta), with its dual value and its KL to uniform."""

    weights: Tensor
    value: Tensor
    kl: Tensor


def _tilt(losses: Tensor, beta: float) -> _Tilted:
    """Tilt without overflow or cancellation, for any finite float64 losses and beta != 0."""
    low, high = losses.min(), losses.max()
    # Nearly uniform: every quantity is a small difference from the mean, so centre there.
    gentle = bool(high - low <= abs(beta))
    centre = losses.mean() if gentle else (high if beta > 0 else low)
    exponent = ((losses - centre) / beta).clamp(min=-1e4)  # exp is 0 below; 0 * -inf is NaN
    weights = donsker_varadhan_weights(losses - centre, beta)
    log_mean = exponent.expm1().mean().log1p() if gentle else exponent.exp().mean().log()
    return _Tilted(weights, centre + beta * log_mean, weights @ exponent - log_mean)


def _weights_at_radius(losses: Tensor, radius: float) -> Tensor:
    """Return the tilt whose KL to uniform is `radius`, by bisection: KL falls as the temperature rises."""
    largest = losses == losses.max()
    if radius >= math.log(len(losses) / int(largest.sum())):
        return _evenly(largest)
    spread = float(losses.max() - losses.min())
    gap = float(losses.max() - losses[~largest].max())
    # At the low end all but the largest underflow to zero. At the high end KL <= radius, because the variance under
    # any tilt is at most spread^2 / 4.
    low, high = math.log(max(gap / 800, sys.float_info.min)), math.log(spread / math.sqrt(8 * radius))
    while high - low > 1e-14 * max(1.0, abs(low), abs(high)):
        middle = (low + high) / 2
        if _tilt(losses, math.exp(middle)).kl > radius:
            low = middle
        else:
            high = middle
    return _tilt(losses, math.exp(high)).weights


def _evenly(chosen: Tensor) -> Tensor:
    """Return even weights of sum 1 on the chosen samples."""
    return chosen.double() / chosen.sum()


def _float64(losses: Tensor) -> Tensor:
    if losses.ndim != 1 or len(losses) == 0:
        raise ValueError(f"losses must be one number per sample, shape (n,) with n >= 1, not {tuple(losses.shape)}")
    if losses.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"losses must be float32 or float64, not {losses.dtype}: compute them in full precision")
    exact = losses.detach().cpu().double()  # moved first: not every device has float64
    if where := (~exact.isfinite()).nonzero().flatten().tolist():
        raise ValueError(f"losses are not finite at positions {where}: {exact[where].tolist()}")
    return exact


# The formulas, identical in the pull request of `baldro upstream`; tests/test_upstream.py compares the two.


def donsker_varadhan_weights(losses: Tensor, beta: float) -> Tensor:
    """
    Worst case of BalDRO-DV, a soft maximum: the distribution w that maximises
    sum_i w_i * losses_i - beta * KL(w || uniform).

    That maximum is beta * log(mean(exp(losses / beta))), and w is its gradient.

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      beta: Temperature in units of the loss; inf weighs all samples alike

    Returns:
      Weights of sum 1, shape [n]
    """
    return (losses / beta).softmax(0)


def top_group_weights(losses: Tensor, fraction: float) -> Tensor:
    """
    Worst case of BalDRO-G, the group with the largest losses, weighed evenly.

    A sample at the boundary counts in part where fraction * n is not an integer, and
    samples tied there share what is left (conditional value at risk).

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      fraction: Share of the samples in the group, in (0, 1]; 1 weighs all alike

    Returns:
      Weights of sum 1, shape [n]
    """
    # Rounded, because 0.1 * 30 is 3.0000000000000004 in floating point
    size = max(1.0, round(fraction * len(losses), 9))
    boundary = losses.sort(descending=True).values[math.ceil(size) - 1 :][:1]
    above, tied = (losses > boundary).to(losses), (losses == boundary).to(losses)
    return (above + tied * (size - above.sum()) / tied.sum()) / size
