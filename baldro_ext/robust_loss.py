"""The way of a micro-batch through the method: rows to train, log-probabilities, losses, weights, one number.

Works on tensors; where log-probabilities come from is the caller's affair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baldro_ext.adversary import Adversary, Weights, upload
from baldro_ext.logprobs import AnswerLogProbs
from baldro_ext.losses import ForgetLoss, TokenAveraged
from baldro_ext.weightings import with_gradient

AnswersOf = Callable[[Tensor], AnswerLogProbs]
"""Runs the model on the rows `(m,)` int64 of a micro-batch."""


@dataclass(frozen=True)
class ForgetTerm:
    """The robust forget loss of a micro-batch of B samples, and what it was made of.

    Attributes:
        value: `()`, differentiable, on the model's device; a plain number where no sample had to pass the model.
        weights: What the adversary chose.
        unlabeled: How many of the B samples have no answer token, and so nothing to forget.
    """

    value: Tensor | float
    weights: Weights
    unlabeled: int


@dataclass(frozen=True)
class RobustLoss:
    """The worst case of a forget loss.

    Args:
        loss: Per sample, larger = less forgotten.
        adversary: The worst-case distribution Q, where it lives, and what is known of the samples.
        hardness: What Q is chosen by: `loss`, or `nll` for the log-probability per answer token (the least negative
            log-likelihood is hardest; the released code's choice for its group).
    """

    loss: ForgetLoss
    adversary: Adversary
    hardness: Literal["loss", "nll"] = "loss"

    def __call__(
        self,
        answers_of: AnswersOf,
        index: Tensor,
        labeled: Tensor,
        reference: Tensor | None = None,
        *,
        may_skip: bool = False,
    ) -> ForgetTerm:
        """Return the robust loss of a micro-batch, with as little work as its weighting allows.

        Args:
            answers_of: Runs the model on some of its rows.
            index: `(B,)` int64 on the CPU, the samples' places in the forget set.
            labeled: `(B,)` bool on the CPU, whether a sample has an answer token.
            reference: `(B,)` log-likelihoods before unlearning, for losses that need them.
            may_skip: Whether a micro-batch of which no sample counts may do without a forward pass. It may not where
                other ranks wait for this one, nor where nothing else has a gradient.

        Raises:
            ValueError: Losses are not finite; names the samples.
        """
        adversary, unlabeled = self.adversary, int((~labeled).sum())
        rows = torch.arange(len(index))
        if adversary.unit == "token":
            return self._over_tokens(answers_of(rows), index, unlabeled)
        weights = None
        if adversary.scores_first:
            with torch.no_grad():
                scores = self._scores(answers_of(rows), reference, rows)
            weights = adversary.weights(index, labeled, *scores)
            rows = weights.rows
        else:
            rows = adversary.rows_to_train(index, labeled)
        if len(rows) == 0:
            if may_skip:
                nothing = torch.zeros(0)
                weights = weights or adversary.weights(index, labeled, nothing, nothing, rows)
                return ForgetTerm(float(weights.value), weights, unlabeled)
            # One with weight 0, so that there is a graph; its loss is not noted, as it is not where it may be skipped.
            some = torch.zeros(1, dtype=torch.int64)
            losses, hardness = self._scores(answers_of(some), reference, some)
            weights = weights or adversary.weights(index, labeled, losses[:0], hardness[:0], rows)
            return ForgetTerm(_weighed(losses, weights.value, weights.gradient[some]), weights, unlabeled)
        losses, hardness = self._scores(answers_of(rows), reference, rows)
        weights = weights or adversary.weights(index, labeled, losses, hardness, rows)
        return ForgetTerm(_weighed(losses, weights.value, weights.gradient[rows]), weights, unlabeled)

    def _scores(self, answers: AnswerLogProbs, reference: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses and hardness, `(m,)` each."""
        if reference is not None:
            reference = upload(reference[rows], like=answers.tokens)
        losses = self.loss(answers, reference)
        return losses, (losses if self.hardness == "loss" else answers.means).detach()

    def _over_tokens(self, answers: AnswerLogProbs, index: Tensor, unlabeled: int) -> ForgetTerm:
        assert isinstance(self.loss, TokenAveraged)
        losses = self.loss.token_losses(answers)
        hardness = losses if self.hardness == "loss" else answers.means
        weights = self.adversary.token_weights(index, answers.mask, losses.detach(), hardness.detach())
        return ForgetTerm(_weighed(losses.flatten(), weights.value, weights.gradient.flatten()), weights, unlabeled)


def _weighed(losses: Tensor, value: Tensor, weights: Tensor) -> Tensor:
    """Return the value, made to depend on the losses `(m,)` with the weights as its gradient."""
    numbers = upload(torch.cat([value[None], weights]), like=losses)
    return with_gradient(losses, numbers[0], numbers[1:])
