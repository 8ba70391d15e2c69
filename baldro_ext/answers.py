"""What a forward pass gives a forget loss, and what a loss asks of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

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
        raise ValueError(f"the forget loss reads {name} of the answers: declare it in its `needs`")
    return part
