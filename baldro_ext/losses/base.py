"""What a forget loss is, and the registry of all of them."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor

from baldro_ext import registry
from baldro_ext.answers import Answers, Needs


class ForgetLoss(ABC):
    """A loss per sample, larger = less forgotten."""

    needs: ClassVar[Needs] = Needs()
    """What the loss reads of a forward pass: by default the answers' log-probabilities."""
    needs_reference: ClassVar[bool] = False
    """Whether the loss compares `log_ratios` with those of the model before unlearning."""
    reference_is_fixed: ClassVar[bool] = True
    """Whether these are the same at each read of a sample, so that they can be computed once."""
    default_hardness: ClassVar[Literal["loss", "nll"]] = "loss"
    """What the worst case is chosen by unless `hardness` is set: `loss`, or `nll` (the mean log-probability per token)
    if a larger loss does not mean that a sample is remembered better."""
    trainable_params_regex: Any = None
    """Regular expressions for the full names of the parameters to train; `None` trains those that are trainable."""

    def log_ratios(self, answers: Answers) -> Tensor:
        """Return `(B,)`, the log-likelihoods of the answers in nats: what a reference holds of each sample."""
        return answers.sums

    @abstractmethod
    def __call__(self, answers: Answers, reference: Tensor | None = None) -> Tensor:
        """Return the losses.

        Args:
            answers: What the model says of B samples, as far as `needs` declares it.
            reference: `(B,)` `log_ratios` of the model before unlearning, in nats, on the device of the answers; only
                needed if `needs_reference`.

        Returns:
            `(B,)`, larger = less forgotten; finite but meaningless for a sample without answer tokens.
        """


class TokenAveraged(ForgetLoss):
    """A forget loss that is a mean over answer tokens."""

    @abstractmethod
    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses; those outside `counted` are ignored."""

    def counted(self, answers: Answers) -> Tensor:
        """Return `(B, K)` bool, the tokens that the mean is over."""
        return answers.mask

    def __call__(self, answers: Answers, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` means over each sample's answer tokens."""
        counted = self.counted(answers)
        return self.token_losses(answers).masked_fill(~counted, 0).sum(-1) / counted.sum(-1).clamp(min=1)


FORGET_LOSSES = registry.Registry[ForgetLoss](registry.FORGET_LOSSES, ForgetLoss)  # type: ignore[type-abstract]
"""The forget losses by name; the names are the values of the setting `base`."""

_Loss = TypeVar("_Loss", bound=type[ForgetLoss])


def register(loss: _Loss) -> _Loss:
    """Make a forget loss available as `base: <its class name>`."""
    FORGET_LOSSES[loss.__name__] = loss
    return loss


def precise(numbers: Tensor) -> Tensor:
    """Return numbers in float32, or in float64 if they are."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def require(loss: ForgetLoss, name: str, *, positive: bool = False, at_least_zero: bool = False) -> None:
    """Check an argument of a loss; raise ValueError with what to use instead."""
    value = getattr(loss, name)
    ok = math.isfinite(value) and not (positive and value <= 0) and not (at_least_zero and value < 0)
    if not ok:
        kind = "a positive number" if positive else "a number >= 0" if at_least_zero else "a finite number"
        raise ValueError(f"{name}={value} is not valid for {type(loss).__name__}: use {kind}")
