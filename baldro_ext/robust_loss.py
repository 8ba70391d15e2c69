"""The robust forget loss of a micro-batch: rows to train, log-probabilities, losses, weights, value.

Works on tensors; the caller runs the model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from baldro_ext.adversary import Adversary, Weights, upload
from baldro_ext.answers import Answers
from baldro_ext.losses import ForgetLoss, TokenAveraged
from baldro_ext.weightings import with_gradient

AnswersOf = Callable[[Tensor], Answers]
"""Runs the model on the given rows, `(m,)` int64, of a micro-batch."""


@dataclass(frozen=True)
class RobustLoss:
    """The worst case of a forget loss.

    Args:
        loss: The forget loss per sample, larger = less forgotten.
        adversary: Chooses the worst-case distribution Q, by the loss or by the mean log-probability per answer token.
    """

    loss: ForgetLoss
    adversary: Adversary

    def __call__(
        self,
        answers_of: AnswersOf,
        index: Tensor,
        labeled: Tensor,
        reference: Tensor | None = None,
        *,
        may_skip: bool = False,
    ) -> tuple[Tensor | float, Weights]:
        """Return the robust loss of a micro-batch, with a graph for the rows that count only, and its weights.

        Args:
            answers_of: Runs the model on some rows.
            index: `(B,)` int64 on the CPU, the samples' positions in the forget set.
            labeled: `(B,)` bool on the CPU, whether a sample has an answer token.
            reference: `(B,)` `log_ratios` before unlearning in nats, for losses that need them.
            may_skip: Whether to skip the forward pass if no sample counts. Not possible if other ranks wait for this
                one, or if nothing else in the loss has a gradient.

        Returns:
            `()` on the model's device, or a plain number if the forward pass was skipped; and the adversary's choice.

        Raises:
            ValueError: Losses are not finite; the message names the samples.
        """
        adversary = self.adversary
        rows = torch.arange(len(index))
        if adversary.unit == "token":
            return self._over_tokens(answers_of(rows), index)
        weights = None
        if adversary.scores_first:
            with torch.no_grad():
                scores = self._scores_of_rows(answers_of(rows), reference, rows)
            weights = adversary.weights(index, labeled, *scores)
            rows = weights.rows
        else:
            rows = adversary.rows_to_train(index, labeled)
        if len(rows) == 0 and may_skip:
            nothing = torch.zeros(0)
            weights = weights or adversary.weights(index, labeled, nothing, nothing, rows)
            return float(weights.value), weights
        # If no row counts, pass one with weight 0, so that there is a graph; its loss is not recorded.
        passed = rows if len(rows) else torch.zeros(1, dtype=torch.int64)
        losses, hardness = self._scores_of_rows(answers_of(passed), reference, passed)
        weights = weights or adversary.weights(index, labeled, losses[: len(rows)], hardness[: len(rows)], rows)
        return _weighted(losses, weights.value, weights.gradient[passed]), weights

    def scores(self, answers: Answers, reference: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return losses and hardness of B samples, `(B,)` each; the reference, `(B,)`, is on the answers' device."""
        losses = self.loss(answers, reference)
        return losses, (losses if self.adversary.by_loss else answers.means).detach()

    def _scores_of_rows(self, answers: Answers, reference: Tensor | None, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self.scores(answers, None if reference is None else upload(reference[rows], like=answers.tokens))

    def _over_tokens(self, answers: Answers, index: Tensor) -> tuple[Tensor, Weights]:
        assert isinstance(self.loss, TokenAveraged)
        losses = self.loss.token_losses(answers)
        hardness = losses if self.adversary.by_loss else answers.means
        counted = self.loss.counted(answers)
        weights = self.adversary.token_weights(index, counted, losses.detach(), hardness.detach())
        return _weighted(losses.flatten(), weights.value, weights.gradient.flatten()), weights


def _weighted(losses: Tensor, value: Tensor, weights: Tensor) -> Tensor:
    """Return the value on the losses' device, with the weights as its gradient with respect to the losses `(m,)`."""
    numbers = upload(torch.cat([value[None], weights]), like=losses)
    return with_gradient(losses, numbers[0], numbers[1:])
