"""Objective x weighting: the one place where per-sample forget losses meet their worst case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.objectives import ForgetLoss, TokenAveraged
from baldro_ext.weighting import Weighting, WorstCase


@dataclass(frozen=True)
class ForgetTerm:
    """The robust forget loss of a batch of B samples, and what it was made of.

    Q ranges over n units: the samples that have an answer, or all their answer tokens.

    Attributes:
        value: `()`, differentiable; 0 where no sample has an answer.
        losses: `(n,)`, detached.
        weights: `(n,)`, detached, sum 1.
        sample_weights: `(B,)`, detached: the share of each sample, 0 for one without an answer.
        answerless: How many of the B samples have no answer token, and so nothing to forget.
    """

    value: Tensor
    losses: Tensor
    weights: Tensor
    sample_weights: Tensor
    answerless: int


@dataclass(frozen=True)
class RobustLoss:
    """The worst case of a forget loss over the samples of a batch.

    Args:
        objective: Loss per sample, larger = less forgotten.
        weighting: The worst-case distribution Q.
        hardness: What Q is chosen by: `loss`, or `nll` for the log-probability per answer token (the
            least negative log-likelihood is hardest; the released code's choice for its group).
        unit: What Q ranges over: `sample`, or `token` for the answer tokens of the whole batch. The
            latter needs a `TokenAveraged` objective; with even weights it is open-unlearning's token
            mean.
    """

    objective: ForgetLoss
    weighting: Weighting
    hardness: Literal["loss", "nll"] = "loss"
    unit: Literal["sample", "token"] = "sample"

    def __call__(self, answers: AnswerLogProbs, reference: Tensor | None = None) -> ForgetTerm:
        """Return the robust loss.

        Args:
            answers: Log-probabilities of B samples.
            reference: `(B,)` reference log-likelihoods, for objectives that need them.

        Raises:
            ValueError: Losses are not finite; names the samples by their place in the batch.
        """
        answered = answers.lengths > 0
        answerless = int((~answered).sum())
        sample_weights = answers.tokens.new_zeros(len(answered)).detach()
        if answerless == len(answered):
            # Still part of the graph: a data-parallel rank must send gradients, even if all are zero.
            nothing = sample_weights[:0]
            return ForgetTerm(answers.tokens.sum() * 0, nothing, nothing, sample_weights, answerless)
        if answerless:
            answers = answers[answered]
            reference = None if reference is None else reference[answered]

        if self.unit == "token":
            assert isinstance(self.objective, TokenAveraged)
            losses = self.objective.token_losses(answers)[answers.mask]
            owners = answers.mask.nonzero()[:, 0]
        else:
            losses = self.objective(answers, reference)
            owners = None
        samples = answered.nonzero()[:, 0]
        _require_finite(losses, samples if owners is None else samples[owners])
        worst = self._worst_case(answers, losses, owners)

        shares = (
            worst.weights if owners is None else losses.new_zeros(len(answers.mask)).index_add(0, owners, worst.weights)
        )
        sample_weights[answered] = shares
        return ForgetTerm(worst.value, losses.detach(), worst.weights, sample_weights, answerless)

    def _worst_case(self, answers: AnswerLogProbs, losses: Tensor, owners: Tensor | None) -> WorstCase:
        if self.hardness == "loss":
            return self.weighting.worst_case(losses)
        weights = self.weighting.weights(answers.means.detach())
        if owners is not None:
            # Every token of a sample carries the sample's weight.
            weights = weights[owners]
            weights = weights / weights.sum()
        # Not a dot product, which autocast would take in half precision.
        return WorstCase((weights * losses).sum(), weights)


def _require_finite(losses: Tensor, samples: Tensor) -> None:
    bad = ~losses.detach().isfinite()
    if bad.any():
        raise ValueError(
            f"the forget losses of samples {sorted(set(samples[bad].tolist()))} of this batch are not finite "
            f"({losses[bad][:3].tolist()}): training has diverged or the precision does not suffice; lower "
            "learning_rate, or use bf16 or float32 instead of fp16"
        )
