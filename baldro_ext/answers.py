"""What a forward pass gives a forget loss, and what a loss asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

_Part = TypeVar("_Part")

IGNORE_INDEX = -100
"""Label of a position without loss, as in Hugging Face and open-unlearning."""


@dataclass(frozen=True)
class Needs:
    """What a loss reads of the model's outputs on a batch. A forward pass computes this and no more.

    Args:
        log_probs: Log-probabilities of the answer tokens.
        logits: All logits at the positions that predict an answer token.
        own_logits: All logits at the answer tokens' own positions, one later.
        activations: A regular expression for the full name of one module, whose output is read at the answer tokens'
            own positions.
        alternate: Log-probabilities of a second answer to the same question.
        before: The same outputs of the model before unlearning.
    """

    log_probs: bool = True
    logits: bool = False
    own_logits: bool = False
    activations: str | None = None
    alternate: bool = False
    before: bool = False

    @property
    def any_logits(self) -> bool:
        """Whether logits are needed, if only for log-probabilities."""
        return self.log_probs or self.logits or self.own_logits


@dataclass(frozen=True)
class Answers:
    """What a model says of the answers of B samples, on the model's device, at K positions.

    `None` stands for what the loss does not need (`Needs`).

    Attributes:
        log_probs: `(B, K)` float32 or float64, `log pi(y_t)` in nats where `mask` is true, 0 elsewhere.
        mask: `(B, K)` bool, the positions that predict an answer token.
        targets: `(B, K)` int64, the token after each position; any where `mask` is false.
        own: `(B, K)` bool, the answer tokens' own positions.
        logits: `(B, K, V)` in the model's precision, 0 where neither mask is true.
        activations: `(B, K, d)` in the model's precision, 0 where `own` is false.
        alternate: The second answers.
        before: The same of the model before unlearning, without a graph.
    """

    log_probs: Tensor | None
    mask: Tensor
    targets: Tensor | None = None
    own: Tensor | None = None
    logits: Tensor | None = None
    activations: Tensor | None = None
    alternate: Answers | None = None
    before: Answers | None = None

    @property
    def tokens(self) -> Tensor:
        """`(B, K)`, the log-probabilities; raise ValueError if the loss did not ask for them."""
        return needed(self.log_probs, "log_probs")

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


def needed(part: _Part | None, name: str) -> _Part:
    """Return a part of the answers.

    Raises:
        ValueError: The pass did not compute it, because the loss does not declare it.
    """
    if part is None:
        raise ValueError(f"the forget loss reads {name} of the answers: declare it in its property `needs`")
    return part


@dataclass(frozen=True)
class AnswerPositions:
    """The positions of the answers in a batch, on the CPU, so that no step waits for the device to learn them.

    Attributes:
        own: `(B, T)` bool, the answer tokens.
    """

    own: Tensor

    @classmethod
    def of(cls, labels: Tensor) -> AnswerPositions:
        """Return the positions of the answers in labels `(B, T)`."""
        return cls(labels != IGNORE_INDEX)

    @property
    def predicts(self) -> Tensor:
        """`(B, T)` bool, whether position t predicts an answer token, the one at t + 1."""
        return functional.pad(self.own[:, 1:], (0, 1))

    @property
    def labeled(self) -> Tensor:
        """`(B,)` bool, whether a sample has an answer token that is predicted."""
        return self.own[:, 1:].any(-1)

    def __getitem__(self, rows: Tensor) -> AnswerPositions:
        """Return the positions of the chosen rows, `(m,)` int64."""
        return AnswerPositions(self.own[rows])

    def kept(self, needs: Needs) -> Tensor:
        """Return `(K,)` int64, K >= 1, the positions that any sample's outputs are needed at; [0] if there are none."""
        at = torch.zeros_like(self.own)
        if needs.log_probs or needs.logits:
            at = at | self.predicts
        if needs.own_logits or needs.activations:
            at = at | self.own
        kept = at.any(0).nonzero()[:, 0]
        return kept if len(kept) else torch.zeros(1, dtype=torch.int64)  # backward needs a graph
