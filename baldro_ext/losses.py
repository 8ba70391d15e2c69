"""Per-sample forget losses over answer log-probabilities, and their registry.

Each is larger the less a sample is forgotten, so that its worst case is the sample best remembered.
A new one is a class here and a YAML in `configs/trainer`.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

import torch.nn.functional as F
from torch import Tensor

from baldro_ext.logprobs import AnswerLogProbs
from baldro_ext.suggest import known


class ForgetLoss(ABC):
    """One number per sample: how far it still is from forgotten."""

    needs_reference: ClassVar[bool] = False
    """Whether the loss compares with the log-likelihoods of the model before unlearning."""
    default_hardness: ClassVar[Literal["loss", "nll"]] = "loss"
    """What the worst case is chosen by unless `hardness` is set: the loss itself, or the mean log-probability per token
    where a large loss does not mean that a sample is remembered."""

    @abstractmethod
    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return the losses.

        Args:
            answers: Log-probabilities of B samples.
            reference: `(B,)` log-likelihoods of the answers under the reference model, in nats, on the device of the
                answers; only where `needs_reference`.

        Returns:
            `(B,)`, larger = less forgotten; a finite number without meaning for a sample without answer tokens.
        """


class TokenAveraged(ForgetLoss):
    """A forget loss that is the mean of a loss per answer token."""

    @abstractmethod
    def token_losses(self, answers: AnswerLogProbs) -> Tensor:
        """Return `(B, T)` losses, 0 where there is no answer token."""

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` means over each sample's answer tokens."""
        return self.token_losses(answers).sum(-1) / answers.lengths.clamp(min=1)


FORGET_LOSSES: dict[str, type[ForgetLoss]] = {}
"""Every forget loss by name: the values of the setting `base`."""

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
        ValueError: Unknown name or argument (listing what exists and the closest), or a bad value.
    """
    accepted = argument_names(name)
    for key in arguments:
        if key not in accepted:
            raise ValueError(f"{name} has no argument {key!r}: {known(key, accepted)}")
    return FORGET_LOSSES[name](**arguments)


def argument_names(name: str) -> tuple[str, ...]:
    """Return the names of a loss's own arguments; ValueError if there is no loss of that name."""
    if name not in FORGET_LOSSES:
        raise ValueError(f"base={name!r} is no known forget loss: {known(str(name), FORGET_LOSSES)}")
    return tuple(field.name for field in dataclasses.fields(FORGET_LOSSES[name]))  # type: ignore[arg-type]


@register
@dataclasses.dataclass(frozen=True)
class NPO(ForgetLoss):
    """Negative preference optimisation: `-(2/beta) log sigmoid(-beta (log pi(y) - log pi_ref(y)))`.

    Source: arXiv:2404.05868; as `trainer/unlearn/npo.py` of open-unlearning.

    Args:
        beta: Inverse temperature, per nat, positive; towards 0 it becomes gradient ascent.
    """

    beta: float = 0.1
    needs_reference: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _require("NPO", "beta", self.beta, positive=True)

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> Tensor:
        """Return `(B,)` losses, at least 0 and `(2/beta) log 2` where model and reference agree."""
        if reference is None:
            raise ValueError("NPO compares with a reference model: pass its log-likelihoods, shape (B,)")
        return npo_losses(answers.sums, reference, self.beta)


@register
@dataclasses.dataclass(frozen=True)
class SimNPO(ForgetLoss):
    """Simple NPO, without reference: `-(2/beta) log sigmoid(-(beta/|y|) log pi(y) - beta delta)`.

    Source: arXiv:2410.07163; as `trainer/unlearn/simnpo.py` of open-unlearning.

    Args:
        beta: Inverse temperature, per nat and token, positive.
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
    """Saturation and importance: the mean of `p_t^beta1 (1 - p_t)^beta2 log p_t`, its factors held fixed.

    It returns to 0, its largest value, for samples that are already forgotten, so it says little about how hard a
    sample is: by default the worst case is chosen by log-probability.
    Source: arXiv:2505.11953; as `trainer/unlearn/satimp.py` of open-unlearning.

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
        """Return `(B, T)` losses, at most 0."""
        return satimp_token_losses(answers.tokens, self.beta1, self.beta2)


@register
@dataclasses.dataclass(frozen=True)
class GradDiff(TokenAveraged):
    """Gradient ascent on the answers, the forget half of gradient difference: the mean of `log p_t`.

    Source: arXiv:2203.12817; as `trainer/unlearn/grad_diff.py` of open-unlearning, whose NLL it is with the sign
    turned. Without lower bound: what is forgotten goes on being pushed.
    """

    def token_losses(self, answers: AnswerLogProbs) -> Tensor:
        """Return `(B, T)` losses, at most 0."""
        return answers.tokens


def _require(loss: str, name: str, value: float, *, positive: bool = False, at_least_zero: bool = False) -> None:
    ok = math.isfinite(value) and not (positive and value <= 0) and not (at_least_zero and value < 0)
    if not ok:
        kind = "a positive number" if positive else "a number >= 0" if at_least_zero else "a finite number"
        raise ValueError(f"{name}={value} does not suit {loss}: use {kind}")


# The formulas alone, as `baldro upstream` copies them: tests/test_upstream.py fails where the copies differ.


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
