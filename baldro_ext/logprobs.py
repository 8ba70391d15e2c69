"""Log-probabilities of the answers in a batch, from one forward pass that computes only the logits they need.

Most logits of a causal model belong to prompt and padding, which no loss reads. Models of transformers can skip them,
by an argument whose name depends on the release.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

IGNORE_INDEX = -100
"""Label of a position without loss, as in Hugging Face and open-unlearning."""


@dataclass(frozen=True)
class AnswerLogProbs:
    """A model's log-probabilities for the answers of B samples, on the model's device.

    Attributes:
        tokens: `(B, K)` float32 or float64, `log pi(y_t)` in nats where `mask` is true, 0 elsewhere.
        mask: `(B, K)` bool, the answer tokens.
    """

    tokens: Tensor
    mask: Tensor

    @property
    def lengths(self) -> Tensor:
        """`(B,)` int64, the number |y| of answer tokens."""
        return self.mask.sum(-1)

    @property
    def sums(self) -> Tensor:
        """`(B,)`, `log pi(y)`: the log-likelihood of each answer, in nats."""
        return self.tokens.sum(-1)

    @property
    def means(self) -> Tensor:
        """`(B,)`, `log pi(y) / |y|`: nats per token; 0 for a sample without answer tokens."""
        return self.sums / self.lengths.clamp(min=1)

    def __getitem__(self, samples: Tensor) -> AnswerLogProbs:
        """Return the chosen samples; `samples` is `(B,)` bool or a vector of indices."""
        return AnswerLogProbs(self.tokens[samples], self.mask[samples])


@dataclass(frozen=True)
class AnswerPositions:
    """The positions of the answers in a batch, on the CPU, so that no step waits for the device to learn them.

    Attributes:
        predicts: `(B, T)` bool, whether position t predicts an answer token, the one at t + 1.
    """

    predicts: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> AnswerPositions:
        """Return the positions of the answers in labels `(B, T)`."""
        return cls(functional.pad(labels[:, 1:] != IGNORE_INDEX, (0, 1)))

    @property
    def labeled(self) -> Tensor:
        """`(B,)` bool, whether a sample has an answer token."""
        return self.predicts.any(-1)

    def __getitem__(self, rows: Tensor) -> AnswerPositions:
        """Return the positions of the chosen rows, `(m,)` int64."""
        return AnswerPositions(self.predicts[rows])

    def needed(self) -> Tensor:
        """Return `(K,)` int64, K >= 1, the positions where any sample predicts an answer token; [0] if none does."""
        needed = self.predicts.any(0).nonzero()[:, 0]
        return needed if len(needed) else torch.zeros(1, dtype=torch.int64)  # backward needs a graph


@dataclass(frozen=True)
class AnswerForward:
    """Computes the answers' log-probabilities with as few logits as the model's `forward` allows.

    Args:
        accepts: Keys of the batch that the model's `forward` takes.
        argument: `logits_to_keep` (transformers 4.49 and later), `num_logits_to_keep` (4.45), or `None` for a
            model that always computes all logits.
        takes_positions: Whether that argument may be a tensor of positions, not just the number of last ones.
        caches: Whether the model has the argument `use_cache`, to be set to false.
    """

    accepts: frozenset[str] = frozenset({"input_ids", "attention_mask"})
    argument: str | None = None
    takes_positions: bool = False
    caches: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> AnswerForward:
        """Read the signature of a model that no engine has wrapped; a PEFT model is unwrapped."""
        unwrap: Any = getattr(model, "get_base_model", None)
        base = unwrap() if unwrap else model
        parameters = inspect.signature(base.forward).parameters
        accepts = frozenset(parameters) - {"labels", "use_cache"} if "input_ids" in parameters else cls.accepts
        for argument in ("logits_to_keep", "num_logits_to_keep"):
            if argument in parameters:
                tensors = "Tensor" in str(parameters[argument].annotation)
                return cls(accepts, argument, tensors, "use_cache" in parameters)
        return cls(accepts, caches="use_cache" in parameters)

    def __call__(
        self, model: nn.Module, batch: Mapping[str, Any], positions: AnswerPositions | None = None
    ) -> tuple[AnswerLogProbs, Any]:
        """Run the model, wrapped or not, on a batch.

        Args:
            model: Called with the keys of the batch it accepts, but without labels, so that it computes no
                cross-entropy.
            batch: `input_ids`, `labels`, each `(B, T)`, and other arguments of the model; padding may be on either
                side.
            positions: Of the answers; by default computed from the labels, which waits for their device.

        Returns:
            Log-probabilities `(B, K)`, 1 <= K <= max(1, T - 1), and the model's outputs, with logits for K positions.

        Raises:
            ValueError: The model returns logits for other positions than it was asked for.
        """
        labels = batch["labels"]
        needed = (positions or AnswerPositions.of(labels)).needed()
        first, end = int(needed[0]), int(needed[-1]) + 1
        inputs = {name: value for name, value in batch.items() if name in self.accepts}
        if all(value.shape == labels.shape for value in inputs.values()):
            # A causal model does not need the tokens after the last answer token.
            inputs = {name: value[:, :end] for name, value in inputs.items()}
        else:
            end = labels.shape[1]
        if self.caches:
            inputs["use_cache"] = False
        kept: Tensor | slice = slice(0, end)
        if self.argument is not None:
            kept = slice(first, end)
            inputs[self.argument] = end - first
            # nn.DataParallel would split a tensor of positions among the replicas.
            if self.takes_positions and len(needed) < end - first and not isinstance(model, nn.DataParallel):
                kept = inputs[self.argument] = needed.to(labels.device, non_blocking=labels.is_cuda)
        outputs = model(**inputs)
        targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX)[:, kept]
        if outputs.logits.shape[1] != targets.shape[1]:
            raise ValueError(
                f"the model returned logits for {outputs.logits.shape[1]} positions, but {targets.shape[1]} were "
                "asked for, so they cannot be matched with the labels: use a model, or an adapter such as LoRA, that "
                "adds no positions of its own"
            )
        return predicted_log_probs(outputs.logits, targets), outputs


def rows_of(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Return the given rows, `(m,)` int64 on the CPU, of a batch of tensors `(B, ...)` on any device."""
    size = len(batch["labels"])
    if torch.equal(rows, torch.arange(size)):
        return dict(batch)
    return {
        # Row by row, because a vector of indices would have to be moved to the device first.
        name: torch.stack([value[row] for row in rows.tolist()])
        if isinstance(value, Tensor) and len(value) == size
        else value
        for name, value in batch.items()
    }


def answer_log_probs(logits: Tensor, labels: Tensor) -> AnswerLogProbs:
    """Return the answers' log-probabilities from a causal model's logits.

    Equals `logits.float().log_softmax(-1)` gathered at the next token and masked. Processes the positions in chunks
    and keeps for backward only the logits, which exist anyway, and one number per position.

    Args:
        logits: `(B, T, V)`; position t predicts token t + 1.
        labels: `(B, T)` int64, `IGNORE_INDEX` outside the answers.

    Returns:
        Log-probabilities `(B, T - 1)`, one per predicted token, float32, or float64 for float64 logits.
    """
    return predicted_log_probs(logits[:, :-1], labels[:, 1:])


def predicted_log_probs(logits: Tensor, targets: Tensor) -> AnswerLogProbs:
    """Return the log-probabilities of targets `(B, K)` from the logits `(B, K, V)` that predict them."""
    targets = targets.to(logits.device)
    mask = targets != IGNORE_INDEX
    tokens: Tensor = _LogProbs.apply(logits, targets.masked_fill(~mask, 0), mask)  # type: ignore[no-untyped-call]
    return AnswerLogProbs(tokens, mask)


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


_CHUNK = {"cpu": 2**20}  # logits that fit into a processor's cache; a GPU is faster with fewer, larger kernels
_CHUNK_ELSEWHERE = 2**26


def _chunks(logits: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield row and positions of parts `(k, V)` of logits `(B, K, V)`, small enough to copy."""
    rows, positions, vocabulary = logits.shape
    size = max(1, _CHUNK.get(logits.device.type, _CHUNK_ELSEWHERE) // max(1, vocabulary))
    for row in range(rows):
        for start in range(0, positions, size):
            yield row, slice(start, start + size)
