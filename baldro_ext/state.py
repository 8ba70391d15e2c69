"""What training remembers of each forget sample between micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SampleState:
    """The latest results of n forget samples, by index, on the CPU; equal on every rank.

    Attributes:
        losses: `(n,)` float64, the latest forget loss; NaN while unknown, and for samples without an answer.
        hardness: `(n,)` float64, what the worst case is chosen by; NaN like the losses.
        seen: `(n,)` bool, whether the sample was trained on in this epoch.
        reference: `(n,)` float64, log-likelihoods before unlearning in nats, or `None` if not needed.
    """

    losses: Tensor
    hardness: Tensor
    seen: Tensor
    reference: Tensor | None = None

    @classmethod
    def blank(cls, size: int, *, reference: bool = False) -> SampleState:
        """Return the state of `size` samples before any of them is scored, with room for a reference if needed."""
        unknown = torch.full((3, size), torch.nan, dtype=torch.float64)
        seen = torch.zeros(size, dtype=torch.bool)
        return cls(unknown[0], unknown[1], seen, unknown[2] if reference else None)

    def record(self, index: Tensor, losses: Tensor, hardness: Tensor) -> None:
        """Store the losses and hardness, `(m,)` each, of the samples at `index`, `(m,)` int64."""
        self.losses[index] = losses.to(self.losses)
        self.hardness[index] = hardness.to(self.hardness)

    def mark_seen(self, index: Tensor) -> Tensor:
        """Mark samples as trained on; return `(m,)` bool, false for samples repeated within this epoch.

        Data-parallel loaders fill up the last batch of an epoch with samples from its start.
        """
        fresh = torch.zeros(len(index), dtype=torch.bool)
        for place, sample in enumerate(index.tolist()):
            fresh[place] = not self.seen[sample]
            self.seen[sample] = True
        return fresh

    @property
    def has_loss(self) -> Tensor:
        """`(n,)` bool, the samples that have a loss."""
        return self.losses.isfinite()
