"""What a weighting is, and the gradient of its worst case."""

from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor


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

    A weighting is a frozen dataclass. Its fields are its settings in `trainer.method_args`, and each has a default.
    """

    setting_names: ClassVar[dict[str, str]] = {}
    """The names in `trainer.method_args` of the fields that have another name there: the settings of a method share one
    namespace, in which `beta`, for example, is NPO's."""

    @classmethod
    def settings(cls) -> dict[str, str]:
        """Return the names of the fields by the names of their settings."""
        return {cls.setting_names.get(field.name, field.name): field.name for field in fields(cls)}  # type: ignore[arg-type]

    @property
    @abstractmethod
    def is_mean(self) -> bool:
        """Whether the distribution is uniform whatever the losses."""

    @property
    def share(self) -> float:
        """The share of samples with a weight above 0, or 1 if it depends on the losses."""
        return 1.0

    @abstractmethod
    def solve(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights `(n,)` and value `()` for finite float64 losses `(n,)`."""

    def worst_case(self, losses: Tensor) -> WorstCase:
        """Solve the inner maximum.

        Args:
            losses: `(n,)` float32 or float64, larger = less forgotten.

        Raises:
            ValueError: `losses` is empty, not one-dimensional, or not finite (the message names the positions).
            TypeError: `losses` is neither float32 nor float64.
        """
        weights, value = (exact.to(losses.dtype).to(losses.device) for exact in self.solve(_float64(losses)))
        return WorstCase(with_gradient(losses, value, weights), weights)

    def weights(self, losses: Tensor) -> Tensor:
        """Return only the weights of `worst_case(losses)`: `(n,)`, sum 1, detached."""
        return self.worst_case(losses.detach()).weights

    def __call__(self, losses: Tensor) -> Tensor:
        """Return only the value of `worst_case(losses)`: a differentiable scalar."""
        return self.worst_case(losses).value


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


def evenly(chosen: Tensor) -> Tensor:
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
