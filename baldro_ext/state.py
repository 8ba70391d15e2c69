"""What is known of each forget sample, and outlives the micro-batch that told it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SampleState:
    """What is known of each of n forget samples, by index, on the CPU: the same on every rank.

    Attributes:
        losses: `(n,)` float64, the latest forget loss; not a number while unknown, and for samples without an answer.
        hardness: `(n,)` float64, what the worst case is chosen by; likewise.
        seen: `(n,)` bool, whether the sample was trained on in this epoch.
        reference: `(n,)` float64, log-likelihoods before unlearning in nats, or `None` if not needed.
    """

    losses: Tensor
    hardness: Tensor
    seen: Tensor
    reference: Tensor | None = None

    @classmethod
    def blank(cls, size: int) -> SampleState:
        """Return the state of `size` samples of which nothing is known."""
        unknown = torch.full((size,), torch.nan, dtype=torch.float64)
        return cls(unknown, unknown.clone(), torch.zeros(size, dtype=torch.bool))

    def record(self, index: Tensor, losses: Tensor, hardness: Tensor) -> None:
        """Enter the latest numbers of some samples: `(m,)` int64, and `(m,)` twice."""
        self.losses[index] = losses.to(self.losses)
        self.hardness[index] = hardness.to(self.hardness)

    def mark_seen(self, index: Tensor) -> Tensor:
        """Mark samples `(m,)` as trained on; return `(m,)` bool, false for a repetition in this epoch.

        Data-parallel loaders fill up the last batch of an epoch with samples from its start.
        """
        fresh = torch.zeros(len(index), dtype=torch.bool)
        for place, sample in enumerate(index.tolist()):
            fresh[place] = not self.seen[sample]
            self.seen[sample] = True
        return fresh

    @property
    def known(self) -> Tensor:
        """`(n,)` bool: the samples with a loss."""
        return self.losses.isfinite()
