"""Objective x weighting x scope: the one place where per-sample forget losses meet their worst case."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from baldro_ext.ledger import Ledger
from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.objectives import ForgetLoss, TokenAveraged
from baldro_ext.scope import Choice, Scope
from baldro_ext.weighting import Weighting, with_gradient


@dataclass(frozen=True)
class ForgetTerm:
    """The robust forget loss of a batch of B samples, and what it was made of.

    Attributes:
        value: `()`, differentiable; 0 where no sample has an answer.
        losses: `(n,)`, detached: of this rank's units, the samples with an answer or their answer tokens.
        weights: Detached, sum 1: the distribution Q, over the units of the whole scope.
        sample_weights: `(B,)`, detached: the weight of each sample's gradient, 0 for one without an answer.
        answerless: How many of the B samples have no answer token, and so nothing to forget.
    """

    value: Tensor
    losses: Tensor
    weights: Tensor
    sample_weights: Tensor
    answerless: int


@dataclass(frozen=True)
class RobustLoss:
    """The worst case of a forget loss.

    Args:
        objective: Loss per sample, larger = less forgotten.
        weighting: The worst-case distribution Q.
        hardness: What Q is chosen by: `loss`, or `nll` for the log-probability per answer token (the
            least negative log-likelihood is hardest; the released code's choice for its group).
        unit: What Q ranges over: `sample`, or `token` for the answer tokens of the batch. The latter
            needs a `TokenAveraged` objective; with even weights it is open-unlearning's token mean.
    """

    objective: ForgetLoss
    weighting: Weighting
    hardness: Literal["loss", "nll"] = "loss"
    unit: Literal["sample", "token"] = "sample"

    def __call__(
        self,
        answers: AnswerLogProbs,
        reference: Tensor | None = None,
        scope: Scope | None = None,
        indices: Tensor | None = None,
    ) -> ForgetTerm:
        """Return the robust loss.

        Args:
            answers: Log-probabilities of B samples.
            reference: `(B,)` reference log-likelihoods, for objectives that need them.
            scope: Where Q lives; by default among the B samples (or their tokens) alone.
            indices: `(B,)` int64, the samples' places in the forget set, where there is a scope.

        Raises:
            ValueError: Losses are not finite; names the samples by their place in the batch.
        """
        answered = answers.lengths > 0
        sample_weights = answers.tokens.new_zeros(len(answered)).detach()
        samples = answered.nonzero()[:, 0]
        answers = answers[answered]
        reference = None if reference is None else reference[answered]
        if self.unit == "token":
            assert isinstance(self.objective, TokenAveraged)
            losses = self.objective.token_losses(answers)[answers.mask]
            owners = answers.mask.nonzero()[:, 0]
            _require_finite(losses, samples[owners])
            choice = self._among_tokens(answers, losses.detach(), owners)
            shares = choice.gradient.new_zeros(len(answers.mask)).index_add(0, owners.cpu(), choice.gradient)
        else:
            losses = self.objective(answers, reference)
            _require_finite(losses, samples)
            hardness = losses.detach() if self.hardness == "loss" else answers.means.detach()
            if scope is None or indices is None:
                scope, indices = Scope("batch", Ledger.blank(len(answered))), torch.arange(len(answered))
            choice = scope.choose(self.weighting, indices.to(answered.device)[answered], losses.detach(), hardness)
            shares = choice.gradient
        sample_weights[answered] = shares.to(sample_weights)
        value = with_gradient(losses, choice.value.to(losses), choice.gradient.to(losses))
        return ForgetTerm(value, losses.detach(), choice.weights, sample_weights, int((~answered).sum()))

    @property
    def trained_share(self) -> float:
        """The share of samples with a weight above 0, as far as the weighting fixes one."""
        return self.weighting.share if self.unit == "sample" else 1.0

    def from_ledger(self, scope: Scope, indices: Tensor, answered: Tensor) -> ForgetTerm:
        """Choose for a micro-batch `(B,)` by what the ledger last knew of its samples; nothing has a gradient yet."""
        answered = answered.cpu()
        places = indices.cpu()[answered]
        losses = scope.ledger.losses[places]
        choice = scope.choose(self.weighting, places, losses, scope.ledger.hardness[places])
        weights = torch.zeros(len(answered), dtype=torch.float64)
        weights[answered] = choice.gradient
        return ForgetTerm(choice.value, losses, choice.weights, weights, int((~answered).sum()))

    def of_group(
        self,
        chosen: ForgetTerm,
        group: Tensor,
        answers: AnswerLogProbs,
        reference: Tensor | None,
        scope: Scope,
        indices: Tensor,
    ) -> ForgetTerm:
        """Give a term chosen without a graph the gradient of its group.

        Args:
            chosen: Of B samples.
            group: `(m,)` int64, the rows among them that have passed the model again.
            answers: Log-probabilities of the group.
            reference: `(m,)`, for objectives that need them.
            scope: Where the worst case was sought.
            indices: `(B,)` int64.
        """
        passed = answers.lengths > 0
        group, answers = group[passed], answers[passed]
        losses = self.objective(answers, None if reference is None else reference[passed.to(reference.device)])
        _require_finite(losses, group)
        weights = chosen.sample_weights.to(losses)[group]
        if scope.kind == "batch":  # scored a moment ago
            return replace(chosen, value=with_gradient(losses, chosen.value.to(losses), weights))
        hardness = losses.detach() if self.hardness == "loss" else answers.means.detach()
        value = scope.renew(indices.to(group.device)[group], losses.detach(), hardness, weights)
        latest = scope.ledger.losses[indices.cpu()]
        return replace(chosen, value=with_gradient(losses, value.to(losses), weights), losses=latest[latest.isfinite()])

    def _among_tokens(self, answers: AnswerLogProbs, losses: Tensor, owners: Tensor) -> Choice:
        """Choose among this rank's answer tokens `(n,)`, or among their samples, spread over their tokens."""
        if len(losses) == 0:
            return Choice(losses.sum(), losses, losses)
        if self.hardness == "loss":
            worst = self.weighting.worst_case(losses.double().cpu())
            return Choice(worst.value, worst.weights, worst.weights)
        weights = self.weighting.weights(answers.means.detach().double().cpu())[owners.cpu()]
        weights = weights / weights.sum()
        return Choice((weights * losses.double().cpu()).sum(), weights, weights)


def _require_finite(losses: Tensor, samples: Tensor) -> None:
    bad = ~losses.detach().isfinite()
    if bad.any():
        raise ValueError(
            f"the forget losses of samples {sorted(set(samples[bad].tolist()))} of this batch are not finite "
            f"({losses[bad][:3].tolist()}): training has diverged or the precision does not suffice; lower "
            "learning_rate, or use bf16 or float32 instead of fp16"
        )
