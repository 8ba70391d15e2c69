"""Log-probabilities of answer tokens from logits, without a copy of all logits."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def log_probs_of(targets: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Return the log-probabilities of targets, 0 where the mask is false.

    Equals `logits.float().log_softmax(-1)` gathered at the targets and masked. Processes the positions in chunks and
    keeps for backward only the logits, which exist anyway, and one number per position.

    Args:
        targets: `(B, K)` int64, below V also where the mask is false.
        logits: `(B, K, V)` that predict them.
        mask: `(B, K)` bool, where they count.

    Returns:
        `(B, K)` float32, or float64 for float64 logits.
    """
    tokens: Tensor = _LogProbs.apply(logits, targets, mask)  # type: ignore[no-untyped-call]
    return tokens


class _LogProbs(torch.autograd.Function):
    """Log-softmax gathered at the targets, 0 where the mask is false, without a copy of all logits."""

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
            # A slope of 0 is not enough: logits of padding may be NaN.
            result[row, part] = scores.masked_fill_(~mask[row, part, None], 0)
        return result, None, None


_CHUNK_ON_CPU = 2**20  # logits that fit into a processor's cache; a GPU is faster with fewer, larger kernels
_CHUNK = 2**26


def _chunks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield row and positions of parts `(k, V)` of logits `(B, K, V)`, small enough to copy."""
    rows, positions, vocabulary = logits.shape
    size = max(1, (_CHUNK_ON_CPU if logits.device.type == "cpu" else _CHUNK) // max(1, vocabulary))
    for row in range(rows):
        for start in range(0, positions, size):
            yield row, slice(start, start + size)
