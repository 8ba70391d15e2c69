"""Forget losses over the model's whole distribution of the next token."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from baldro_ext.answers import Answers, Needs, needed
from baldro_ext.losses.base import TokenAveraged, precise, register, require


@register
@dataclass(frozen=True)
class CEU(TokenAveraged):
    """Cross-entropy unlearning: the cross-entropy to the model's own distribution without the true token.

    `- sum_v q_v log p_v`, `q = softmax(z)` with `q = 0` at the true token, held fixed. It approaches the entropy of q
    as the true token is forgotten, so it says how uncertain a model is, not what it remembers: by default the worst
    case is chosen by log-probability instead.
    Source: arXiv:2503.01224, as in `trainer/unlearn/ceu.py` of open-unlearning.

    Args:
        ignore_first_n_answer_tokens: Tokens at the start of each answer that do not count, at least 0.
    """

    ignore_first_n_answer_tokens: int = 1
    needs: ClassVar[Needs] = Needs(log_probs=False, logits=True)
    default_hardness: ClassVar[Literal["loss", "nll"]] = "nll"

    def __post_init__(self) -> None:
        require(self, "ignore_first_n_answer_tokens", at_least_zero=True)

    def counted(self, answers: Answers) -> Tensor:
        """Return `(B, K)` bool, all answer tokens but the first ones."""
        return answers.mask & (answers.mask.cumsum(-1) > self.ignore_first_n_answer_tokens)

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at least 0."""
        return _cross_entropies(answers, _precise(answers).detach(), lowered_by=math.inf)


@register
@dataclass(frozen=True)
class UNDIAL(TokenAveraged):
    """Self-distillation from adjusted logits: the model before unlearning teaches, with the true token's logit lowered.

    `- sum_v q_v log p_v`, `q = softmax(z_before - beta at the true token)`. Its smallest value, the entropy of q,
    differs between tokens, so by default the worst case is chosen by log-probability instead.
    Source: arXiv:2402.10052, as in `trainer/unlearn/undial.py` of open-unlearning, which averages prompt and padding
    too.

    Args:
        beta: How much the true token's logit is lowered, at least 0.
    """

    beta: float = 10.0
    needs: ClassVar[Needs] = Needs(log_probs=False, logits=True, before=True)
    default_hardness: ClassVar[Literal["loss", "nll"]] = "nll"

    def __post_init__(self) -> None:
        require(self, "beta", at_least_zero=True)

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at least 0."""
        return _cross_entropies(answers, _precise(needed(answers.before, "before")), lowered_by=self.beta)


@register
@dataclass(frozen=True)
class PDU(TokenAveraged):
    """Flat logits: the mean of `(max_v z_v - mean_v z_v)^2` at the answer tokens' own positions.

    Its scale has no bound and depends on the model, so choose a weighting that does not depend on the scale, such as
    `dv_radius` or the worst group. The primal-dual weight of the paper is the setting `retain_budget`.
    Source: arXiv:2506.05314, as in `trainer/unlearn/pdu.py` of open-unlearning.
    """

    needs: ClassVar[Needs] = Needs(log_probs=False, own_logits=True)

    def counted(self, answers: Answers) -> Tensor:
        """Return `(B, K)` bool, the answer tokens' own positions."""
        return needed(answers.own, "own_logits")

    def token_losses(self, answers: Answers) -> Tensor:
        """Return `(B, K)` losses, at least 0."""
        logits = _precise(answers)
        return (logits.amax(-1) - logits.mean(-1)) ** 2


def _precise(answers: Answers) -> Tensor:
    """Return the logits `(B, K, V)` in float32 or float64."""
    logits = needed(answers.logits, "logits")
    return precise(logits)


def _cross_entropies(answers: Answers, teacher: Tensor, lowered_by: float) -> Tensor:
    """Return the cross-entropies in nats, `(B, K)`, of a teacher and the model.

    Args:
        answers: With logits and targets.
        teacher: Fixed logits `(B, K, V)`.
        lowered_by: What is subtracted from the teacher's logit of the true token.
    """
    logits, targets = _precise(answers), needed(answers.targets, "logits")[..., None]
    lowered = teacher.scatter_add(-1, targets, torch.full_like(teacher[..., :1], -lowered_by))
    return logits.logsumexp(-1) - (lowered.softmax(-1) * logits).sum(-1)
