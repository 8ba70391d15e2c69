"""Per-sample forget losses over answer log-probabilities, and their registry.

A loss is larger the less a sample is forgotten, so the worst case is the sample remembered best.
To add one, write a class here and a YAML file in `configs/trainer`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor

from baldro_ext import registry
from baldro_ext.logprobs import AnswerLogProbs
from baldro_ext.suggest import known


class ForgetLoss(ABC):
    """A loss per sample, larger = less forgotten."""

    needs_reference: ClassVar[bool] = False
    """Whether the loss needs log-likelihoods under the model before unlearning."""
    default_hardness: ClassVar[Literal["loss", "nll"]] = "loss"
    """What the worst case is chosen by unless `hardness` is set: `loss`, or `nll` (the mean log-probability per token)
    if a larger loss does not mean that a sample is remembered better."""

    @abstractmethod
    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return the losses.

        Args:
            answers: Log-probabilities of B samples.
            reference: `(B,)` log-likelihoods of the answers under the reference model, in nats, on the device of the
                answers; only needed if `needs_reference`.

        Returns:
            `(B,)`, larger = less forgotten; finite but meaningless for a sample without answer tokens.
        """


class TokenAveraged(ForgetLoss):
    """A forget loss that is a mean over answer tokens."""

    @abstractmethod
    def token_losses(self, answers: AnswerLogProbs) -> Tensor:
        """Return `(B, K)` losses, 0 outside the answers."""

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` means over each sample's answer tokens."""
        return self.token_losses(answers).sum(-1) / answers.lengths.clamp(min=1)


FORGET_LOSSES = registry.Registry[ForgetLoss](registry.FORGET_LOSSES, ForgetLoss)  # type: ignore[type-abstract]
"""The forget losses by name; the names are the values of the setting `base`."""

_Loss = TypeVar("_Loss", bound=type[ForgetLoss])


def register(loss: _Loss) -> _Loss:
    """Make a forget loss available as `base: <its class name>`."""
    FORGET_LOSSES[loss.__name__] = loss
    return loss


def forget_loss(name: str, **arguments: Any) -> ForgetLoss:
    """Build a forget loss by name.

    Args:
        name: A key of `FORGET_LOSSES`.
        arguments: The loss's own arguments, by the names open-unlearning gives them.

    Raises:
        ValueError: The name or an argument is unknown (the message lists what exists and the closest), or a value is
            invalid.
    """
    accepted = argument_names(name)
    for key in arguments:
        if key not in accepted:
            raise ValueError(f"{name} has no argument {key!r}: {known(key, accepted)}")
    return FORGET_LOSSES[name](**arguments)


def argument_names(name: str) -> tuple[str, ...]:
    """Return the names of a loss's own arguments; raise ValueError if there is no loss of that name."""
    if name not in FORGET_LOSSES:
        raise ValueError(f"base={name!r} is not a known forget loss: {known(str(name), FORGET_LOSSES)}")
    return tuple(field.name for field in dataclasses.fields(FORGET_LOSSES[name]))  # type: ignore[arg-type]


@register
@dataclasses.dataclass(frozen=True)
class NPO(ForgetLoss):
    """Negative preference optimisation: `-(2/beta) log sigmoid(-beta (log pi(y) - log pi_ref(y)))`.

    Source: arXiv:2404.05868, as in `trainer/unlearn/npo.py` of open-unlearning.

    Args:
        beta: Inverse temperature in 1 / nat, positive; the limit at 0 is gradient ascent.
    """

    beta: float = 0.1
    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("NPO", "beta", self.beta, positive=True)

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` losses, at least 0, and `(2/beta) log 2` if model and reference agree."""
        if reference is None:
            raise ValueError("NPO needs reference: pass the log-likelihoods of the reference model, shape (B,)")
        return npo_losses(answers.sums, reference, self.beta)


@register
@dataclasses.dataclass(frozen=True)
class SimNPO(ForgetLoss):
    """Simple NPO, without a reference: `-(2/beta) log sigmoid(-(beta/|y|) log pi(y) - beta delta)`.

    Source: arXiv:2410.07163, as in `trainer/unlearn/simnpo.py` of open-unlearning.

    Args:
        beta: Inverse temperature in tokens / nat, positive.
        delta: Margin in nats per token.
    """

    beta: float = 4.5
    delta: float = 0.0

    def __post_init__(self) -> None:
        _require("SimNPO", "beta", self.beta, positive=True)
        _require("SimNPO", "delta", self.delta)

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` losses, at least 0."""
        return simnpo_losses(answers.means, self.beta, self.delta)


@register
@dataclasses.dataclass(frozen=True)
class SatImp(TokenAveraged):
    """Saturation and importance: the mean of `p_t^beta1 (1 - p_t)^beta2 log p_t`; only `log p_t` is differentiated.

    Its largest value, 0, is also reached by samples that are already forgotten, so by default the worst case is chosen
    by log-probability instead.
    Source: arXiv:2505.11953, as in `trainer/unlearn/satimp.py` of open-unlearning.

    Args:
        beta1: Exponent of saturation, at least 0.
        beta2: Exponent of importance, at least 0.
    """

    beta1: float = 5.0
    beta2: float = 1.0
    default_hardness: ClassVar[Literal["loss", "nll"]] = "nll"

    def __post_init__(self) -> None:
        _require("SatImp", "beta1", self.beta1, at_least_zero=True)
        _require("SatImp", "beta2", self.beta2, at_least_zero=True)

    def token_losses(self, answers: AnswerLogProbs) -> Tensor:
        """Return `(B, K)` losses, at most 0."""
        return satimp_token_losses(answers.tokens, self.beta1, self.beta2)


@register
@dataclasses.dataclass(frozen=True)
class GradDiff(TokenAveraged):
    """Gradient ascent on the answers, the forget half of gradient difference: the mean of `log p_t`.

    It is the negative of the NLL and has no lower bound, so samples that are already forgotten keep being pushed.
    Source: arXiv:2203.12817, as in `trainer/unlearn/grad_diff.py` of open-unlearning.
    """

    def token_losses(self, answers: AnswerLogProbs) -> Tensor:
        """Return `(B, K)` losses, at most 0."""
        return answers.tokens


def _require(loss: str, name: str, value: float, *, positive: bool = False, at_least_zero: bool = False) -> None:
    ok = math.isfinite(value) and not (positive and value <= 0) and not (at_least_zero and value < 0)
    if not ok:
        kind = "a positive number" if positive else "a number >= 0" if at_least_zero else "a finite number"
        raise ValueError(f"{name}={value} is not valid for {loss}: use {kind}")


# The formulas, identical in the pull request of `baldro upstream`; tests/test_upstream.py compares the two.


def npo_losses(log_probs: Tensor, ref_log_probs: Tensor, beta: float) -> Tensor:
    """NPO per sample, from the log-likelihoods of whole answers, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (log_probs - ref_log_probs))


def simnpo_losses(mean_log_probs: Tensor, beta: float, delta: float) -> Tensor:
    """SimNPO per sample, from the mean log-probability per answer token, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (mean_log_probs + delta))


def satimp_token_losses(log_probs: Tensor, beta1: float, beta2: float) -> Tensor:
    """SatImp per token, from log-probabilities of any shape; 0 where they are 0"""
    probs = log_probs.detach().exp()
    return probs**beta1 * (1 - probs) ** beta2 * log_probs
