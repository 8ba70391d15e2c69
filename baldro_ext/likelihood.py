"""Log-probabilities that a causal language model gives to the answer tokens of each sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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

    Equals `logits.float().log_softmax(-1)` gathered at the next token and masked. Works through the positions
    in chunks and keeps for backward only the logits, which exist anyway, and one number per position.

    Args:
        logits: `(B, T, V)`, position t predicting token t + 1.
        labels: `(B, T)` int64, `IGNORE_INDEX` where there is no loss.

    Returns:
        Log-probabilities of shape `(B, T - 1)`, one per predicted token, float32 or that of the logits if finer.
    """
    return predicted_log_probs(logits[:, :-1], labels[:, 1:])


def predicted_log_probs(logits: Tensor, targets: Tensor) -> AnswerLogProbs:
    """Read log-probabilities off logits `(B, K, V)` whose positions predict the targets `(B, K)`."""
    targets = targets.to(logits.device)
    mask = targets != IGNORE_INDEX
    tokens: Tensor = _LogProbs.apply(logits, targets.masked_fill(~mask, 0), mask)  # type: ignore[no-untyped-call]
    return AnswerLogProbs(tokens, mask)


class _LogProbs(torch.autograd.Function):
    """Log-softmax gathered at the targets, 0 where the mask is false, without a second copy of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        precise = torch.promote_types(logits.dtype, torch.float32)
        normalisers = torch.empty(targets.shape, dtype=precise, device=logits.device)
        tokens = torch.empty_like(normalisers)
        for row, part in _chunks(logits):
            scores = logits[row, part].to(precise)
            normalisers[row, part] = scores.logsumexp(-1)
            tokens[row, part] = scores.gather(-1, targets[row, part, None])[:, 0]
        ctx.save_for_backward(logits, targets, mask, normalisers)
        return (tokens - normalisers).masked_fill_(~mask, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        logits, targets, mask, normalisers = ctx.saved_tensors
        slopes = grads[0].masked_fill(~mask, 0)[..., None]
        result = torch.empty_like(logits)
        for row, part in _chunks(logits):
            scores = (logits[row, part] - normalisers[row, part, None]).exp_().mul_(-slopes[row, part])
            scores.scatter_add_(-1, targets[row, part, None], slopes[row, part])
            # Not by a slope of 0 alone: what a model says of padding may be not a number.
            result[row, part] = scores.masked_fill_(~mask[row, part, None], 0)
        return result, None, None


_CHUNK = {"cpu": 2**20}  # scores that stay in a processor's cache; a GPU wants fewer and larger kernels
_CHUNK_ELSEWHERE = 2**26


def _chunks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """Cut `(B, K, V)` logits into parts `(k, V)` of one sample each, small enough to hold copies of."""
    rows, positions, vocabulary = logits.shape
    size = max(1, _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE) // max(1, vocabulary))
    for row in range(rows):
        for start in range(0, positions, size):
            yield row, slice(start, start + size)
