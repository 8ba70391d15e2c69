"""Log-probabilities that a causal language model gives to the answer tokens of each sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE_INDEX = -100
"""Label of a position without loss, as in Hugging Face and in open-unlearning's `data.utils`."""


@dataclass(frozen=True)
class AnswerLogProbs:
    """What a model thinks of the answers in a batch of B samples.

    Attributes:
        tokens: `(B, T)` float32 or float64, `log pi(y_t)` where `mask` is true, 0 elsewhere.
        mask: `(B, T)` bool, the answer tokens.
    """

    tokens: Tensor
    mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64, the number |y| of answer tokens."""
        return self.mask.sum(-1)

    @property
    def sums(self) -> Tensor:
        """`(B,)`, `log pi(y)`: the log-likelihood of each whole answer, in nats."""
        return self.tokens.sum(-1)

    @property
    def means(self) -> Tensor:
        """`(B,)`, `log pi(y) / |y|`: nats per token. Not a number for a sample without answer tokens."""
        return self.sums / self.lengths

    def __getitem__(self, samples: Tensor) -> AnswerLogProbs:
        """Return the chosen samples; `samples` is `(B,)` bool or a vector of indices."""
        return AnswerLogProbs(self.tokens[samples], self.mask[samples])


def answer_log_probs(logits: Tensor, labels: Tensor) -> AnswerLogProbs:
    """Read the answers' log-probabilities off a causal model's logits.

    Equals `logits.float().log_softmax(-1)` gathered at the next token, but takes the softmax at answer
    positions only and never in less than float32.

    Args:
        logits: `(B, T, V)`, position t predicting token t + 1.
        labels: `(B, T)` int64, `IGNORE_INDEX` where there is no loss.

    Returns:
        Log-probabilities of shape `(B, T - 1)`, one per predicted token.
    """
    targets = labels[:, 1:].to(logits.device)
    mask = targets != IGNORE_INDEX
    chosen = logits[:, :-1][mask]
    nll = F.cross_entropy(chosen.to(torch.promote_types(chosen.dtype, torch.float32)), targets[mask], reduction="none")
    return AnswerLogProbs(nll.new_zeros(mask.shape).masked_scatter(mask, -nll), mask)
