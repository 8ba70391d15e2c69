"""Where the worst case is sought: among the samples of one forward pass, or over the whole forget set.

Either spans all data-parallel ranks. Ranks average their gradients, so each rank's share of a sum over all
samples counts as many times as there are ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baldro_ext.ledger import Ledger
from baldro_ext.weighting import Weighting

Gather = Callable[[Tensor], tuple[Tensor, slice]]
"""From this rank's rows `(m, k)` to all ranks' rows `(M, k)` on the CPU, in the order of the ranks, and where
this rank's own stand among them."""


@dataclass(frozen=True)
class Choice:
    """What the adversary chose for a micro-batch.

    Attributes:
        value: `()` float64, the robust loss.
        gradient: `(m,)` float64, what it weighs the losses of this rank's m samples with.
        weights: float64, sum 1: the whole distribution Q that this came from.
    """

    value: Tensor
    gradient: Tensor
    weights: Tensor


def alone(rows: Tensor) -> tuple[Tensor, slice]:
    """Gather for a single rank: the rows are all there is."""
    return rows.cpu(), slice(0, len(rows))


@dataclass(frozen=True)
class Scope:
    """Chooses Q for the samples of a micro-batch, entering their losses in the ledger.

    Args:
        kind: `batch` for the micro-batch's own samples, `dataset` for all that the ledger knows.
        ledger: The same on every rank.
        ranks: How many data-parallel ranks there are.
        gather: Brings their rows together.
        drawn_once: Whether an epoch draws every sample once, so that a repetition is padding.
    """

    kind: Literal["batch", "dataset"]
    ledger: Ledger
    ranks: int = 1
    gather: Gather = alone
    drawn_once: bool = True

    def choose(self, weighting: Weighting, indices: Tensor, losses: Tensor, hardness: Tensor) -> Choice:
        """Choose for this rank's samples, together with those of the other ranks.

        Args:
            weighting: The rule.
            indices: `(m,)` int64, the samples' places in the forget set.
            losses: `(m,)`, detached.
            hardness: `(m,)`, detached: what Q is chosen by; the losses themselves, or something else.
        """
        rows, own = self.gather(
            torch.stack([column.detach().double().cpu() for column in (indices, losses, hardness)], 1)
        )
        where, loss, hard = rows[:, 0].long(), rows[:, 1], rows[:, 2]
        # A repetition that only fills up a batch is as if it were not there.
        counted = self.ledger.visit(where) if self.drawn_once else torch.ones(len(where), dtype=torch.bool)
        self.ledger.record(where[counted], loss[counted], hard[counted])
        share = torch.zeros(len(where), dtype=torch.float64)
        if not counted.any():
            return Choice(share.sum(), share[own], share[:0])

        if self.kind == "batch":
            worst = weighting.worst_case(hard[counted])
            weights, share[counted] = worst.weights, worst.weights
            dual = torch.equal(hard, loss)
            value = worst.value if dual else (share * loss).sum()
        else:
            known = self.ledger.known
            weights = weighting.weights(self.ledger.hardness[known])
            everywhere = torch.zeros(len(known), dtype=torch.float64)
            everywhere[known] = weights
            # An unbiased estimate of the sum over the whole set from a micro-batch of it.
            share[counted] = everywhere[where[counted]] * (len(weights) / int(counted.sum()))
            value = (share * loss).sum()
        return Choice(value, share[own] * self.ranks, weights)

    def renew(self, indices: Tensor, losses: Tensor, hardness: Tensor, gradient: Tensor) -> Tensor:
        """Enter the losses of samples that were chosen by older ones, on all ranks.

        Args:
            indices: `(m,)` int64, this rank's.
            losses: `(m,)`, detached.
            hardness: `(m,)`, detached.
            gradient: `(m,)`, what was chosen to weigh them with: `Choice.gradient`.

        Returns:
            `()` float64, the robust loss: `Choice.value` with these losses.
        """
        rows, _ = self.gather(
            torch.stack([column.detach().double().cpu() for column in (indices, losses, hardness, gradient)], 1)
        )
        self.ledger.record(rows[:, 0].long(), rows[:, 1], rows[:, 2])
        return (rows[:, 3] * rows[:, 1]).sum() / self.ranks
