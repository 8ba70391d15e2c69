"""The adversary: how much each forget sample counts, within a batch or over the whole forget set, on all ranks.

This is the only place where the numbers of a training step leave the model's device, are gathered from all
data-parallel ranks, become float64, and are kept from step to step. Each rank has as many samples as the others, since
their loaders fill up the last batches. Ranks average their gradients, so each rank multiplies its part of a sum over
all samples by the number of ranks.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, InitVar, dataclass, field
from typing import Literal

import torch
from torch import Tensor

from baldro_ext.state import SampleState
from baldro_ext.weightings import Weighting, WorstCase

Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor `(m, k)`, of the same shape on each of R ranks, to `(R * m, k)` in rank order."""

_WORTHWHILE = 2 / 3
"""Scoring a batch first, to train on a part of it, is cheaper than training on all of it up to this share."""


@dataclass(frozen=True)
class Weights:
    """The adversary's choice for this rank's micro-batch of B samples.

    Attributes:
        value: `()` float64, the worst case of the losses over the whole scope.
        gradient: `(B,)` float64, the factor of each sample's loss; `(B, K)` with token weights.
        distribution: `(m,)` float64, sum 1, the whole distribution Q behind it; empty if no sample has a loss.
        mean: Mean loss of the micro-batch over all ranks; `None` if no sample has a loss.
    """

    value: Tensor
    gradient: Tensor
    distribution: Tensor
    mean: float | None

    @property
    def rows(self) -> Tensor:
        """`(m,)` int64, the rows with a weight above 0."""
        positive = self.gradient > 0
        return (positive if positive.ndim == 1 else positive.any(-1)).nonzero()[:, 0]


@dataclass(eq=False)
class Adversary:
    """Chooses the worst-case distribution Q over the forget samples.

    Args:
        weighting: Computes the worst-case distribution of given numbers.
        size: Number n of forget samples.
        scope: `batch`: Q ranges over the samples of a micro-batch on all ranks; `dataset`: over the whole forget set.
        unit: `sample`, or `token`: Q ranges over the answer tokens of this rank's micro-batch.
        by_loss: Whether the hardness that Q is chosen by is the loss itself.
        rank: Index of this data-parallel rank.
        ranks: Number of data-parallel ranks.
        gather: Gathers their rows.
        drawn_once: Whether an epoch draws every sample once, so that a repeated sample is padding.

    Attributes:
        state: The latest loss and hardness of each sample.
    """

    weighting: Weighting
    size: InitVar[int]
    _: KW_ONLY
    scope: Literal["batch", "dataset"] = "batch"
    unit: Literal["sample", "token"] = "sample"
    by_loss: bool = True
    rank: int = 0
    ranks: int = 1
    gather: Gather = lambda rows: rows
    drawn_once: bool = False
    state: SampleState = field(init=False)

    def __post_init__(self, size: int) -> None:
        self.state = SampleState.blank(size)

    @property
    def scores_first(self) -> bool:
        """Whether to score a micro-batch without a graph first, and then train on the chosen samples only."""
        return self.scope == "batch" and self._share <= _WORTHWHILE

    def rows_to_train(self, index: Tensor, labeled: Tensor) -> Tensor:
        """Return the rows of a micro-batch that may get a weight above 0, and so need a forward pass.

        Args:
            index: `(B,)` int64, the samples' positions in the forget set.
            labeled: `(B,)` bool, whether they have an answer.
        """
        if not self._chooses_from_state:
            return torch.arange(len(index))
        return (labeled & (self._over_the_set().weights[index] > 0)).nonzero()[:, 0]

    def weights(
        self, index: Tensor, labeled: Tensor, losses: Tensor, hardness: Tensor, rows: Tensor | None = None
    ) -> Weights:
        """Weight this rank's micro-batch, jointly with those of the other ranks, and record its losses.

        Args:
            index: `(B,)` int64 on the CPU, the samples' positions in the forget set.
            labeled: `(B,)` bool on the CPU, whether they have an answer.
            losses: `(m,)` losses of `rows`, on any device.
            hardness: `(m,)` numbers that Q is chosen by, on the same device.
            rows: `(m,)` int64 on the CPU, the rows that passed the model; all by default.

        Raises:
            ValueError: Losses are not finite; the message names the samples.
        """
        rows = torch.arange(len(index)) if rows is None else rows
        passed = torch.zeros(len(index), dtype=torch.bool)
        passed[rows] = True
        results = torch.stack([losses, hardness], 1).detach()
        numbers = results.new_zeros(len(index), 2)
        numbers[rows.to(losses.device, non_blocking=losses.is_cuda)] = results
        table, own = self._of_all_ranks(torch.stack([index, labeled, labeled & passed], 1), numbers)
        where, loss, hard = table[:, 0].long(), table[:, 3], table[:, 4]
        counted, trained = table[:, 1] > 0, table[:, 2] > 0
        _require_finite(where[trained], loss[trained], hard[trained])
        fresh = self.state.mark_seen(where)
        if self.drawn_once:  # a repeated sample only fills up a batch, so it does not count
            trained, counted = trained & fresh, counted & fresh
        chosen_by = self._over_the_set() if self._chooses_from_state else None
        self.state.record(where[trained], loss[trained], hard[trained])
        factors = torch.zeros(len(where), dtype=torch.float64)
        if not counted.any():
            return Weights(factors.sum(), factors[own], factors[:0], None)

        if self.scope == "batch":
            worst = self.weighting.worst_case(hard[counted])
            factors[counted] = distribution = worst.weights
            value = worst.value if self.by_loss else (factors * loss).sum()
        else:
            worst = chosen_by or self._over_the_set()
            distribution = worst.weights[self.state.has_loss]
            # Scaled to an unbiased estimate of the sum over the whole set.
            factors[counted] = worst.weights[where[counted]] * (len(distribution) / int(counted.sum()))
            current = self.by_loss and chosen_by is None
            value = worst.value if current else (distribution * self.state.losses[self.state.has_loss]).sum()
        mean = float(self.state.losses[where[counted]].mean())
        return Weights(value, factors[own] * self.ranks, distribution, mean)

    def token_weights(self, index: Tensor, mask: Tensor, losses: Tensor, hardness: Tensor) -> Weights:
        """Weight the answer tokens of this rank's micro-batch.

        If Q is not chosen by the loss, samples are weighted by their hardness; each token gets its sample's weight,
        scaled to sum 1.

        Args:
            index: `(B,)` int64 on the CPU, the samples' positions in the forget set.
            mask: `(B, K)` bool, the answer tokens, on any device.
            losses: `(B, K)`, on the same device.
            hardness: `(B, K)`, the losses; or `(B,)` if Q is not chosen by the loss.

        Raises:
            ValueError: Losses are not finite; the message names the samples.
        """
        width = losses.shape[1]
        numbers = _exact(torch.cat([mask.to(losses.dtype), losses, hardness.reshape(len(losses), -1)], 1))
        mask, loss, hard = numbers[:, :width] > 0, numbers[:, width : 2 * width], numbers[:, 2 * width :]
        gradient = torch.zeros(mask.shape, dtype=torch.float64)
        if not mask.any():
            return Weights(gradient.sum(), gradient, gradient.flatten()[:0], None)
        owners = mask.nonzero()[:, 0]
        _require_finite(index[owners], loss[mask], hard.expand(-1, width)[mask])
        if self.by_loss:
            worst = self.weighting.worst_case(loss[mask])
            weights, value = worst.weights, worst.value
        else:
            labeled = mask.any(-1)
            of_sample = torch.zeros(len(mask), dtype=torch.float64)
            of_sample[labeled] = self.weighting.weights(hard[labeled, 0])
            weights = of_sample[owners] / of_sample[owners].sum()
            value = (weights * loss[mask]).sum()
        gradient[mask] = weights
        return Weights(value, gradient, weights, float(loss[mask].mean()))

    def score(self, state: SampleState, index: Tensor, labeled: Tensor, numbers: Tensor) -> None:
        """Record the results of a scoring pass on all ranks.

        Args:
            state: Written to.
            index: `(B,)` int64 on the CPU, the samples' positions in the forget set.
            labeled: `(B,)` bool on the CPU, whether they have an answer.
            numbers: `(B, 3)` on any device: losses, hardness, and what the state keeps as reference, if anything.

        Raises:
            ValueError: Losses are not finite; the message names the samples.
        """
        table, _ = self._of_all_ranks(torch.stack([index, labeled], 1), numbers)
        where, counted = table[:, 0].long(), table[:, 1] > 0
        _require_finite(where[counted], *table[counted, 2:].unbind(1))
        state.record(where[counted], table[counted, 2], table[counted, 3])
        if state.reference is not None:
            state.reference[where] = table[:, 4]

    def mean_of_ranks(self, numbers: Tensor) -> float:
        """Return the mean of `(m,)` numbers of each rank, equal on every rank; m has to be the same on each."""
        return float(_exact(self.gather(numbers)).mean())

    def distribution(self) -> Tensor:
        """Return `(m,)` float64, sum 1: the worst case over the m samples that have a loss, in index order."""
        return self._over_the_set().weights[self.state.has_loss]

    @property
    def _share(self) -> float:
        """The share of samples with a weight above 0, or 1 if it depends on the losses."""
        return self.weighting.share if self.unit == "sample" else 1.0

    @property
    def _chooses_from_state(self) -> bool:
        """Whether samples are chosen by the losses that were recorded before this micro-batch."""
        return self.scope == "dataset" and self._share < 1

    def _over_the_set(self) -> WorstCase:
        """Return the worst case over the whole forget set; weights are `(n,)` float64, 0 for samples without a loss."""
        has_loss = self.state.has_loss
        everywhere = torch.zeros(len(has_loss), dtype=torch.float64)
        if not has_loss.any():
            return WorstCase(everywhere.sum(), everywhere)
        worst = self.weighting.worst_case(self.state.hardness[has_loss])
        everywhere[has_loss] = worst.weights
        return WorstCase(worst.value, everywhere)

    def _of_all_ranks(self, host: Tensor, numbers: Tensor) -> tuple[Tensor, slice]:
        """Gather rows of all ranks on the CPU, by one exchange and one transfer.

        Args:
            host: `(B, j)` int64 on the CPU, below 2^24.
            numbers: `(B, k)` on any device.

        Returns:
            `(ranks * B, j + k)` float64 in rank order, and the slice that is this rank's.
        """
        numbers = numbers.to(torch.promote_types(numbers.dtype, torch.float32))  # which holds the indices exactly
        table = _exact(self.gather(torch.cat([upload(host, like=numbers), numbers], 1)))
        return table, slice(self.rank * len(host), (self.rank + 1) * len(host))


def upload(numbers: Tensor, like: Tensor) -> Tensor:
    """Move numbers from the CPU to another tensor's dtype and device; on CUDA, without waiting for it."""
    return numbers.to(like.dtype).to(like.device, non_blocking=like.is_cuda)


def _exact(numbers: Tensor) -> Tensor:
    """Return numbers in float64 on the CPU; moved first, because not every device has float64."""
    return numbers.detach().cpu().double()


def _require_finite(index: Tensor, *columns: Tensor) -> None:
    bad = ~torch.stack(columns).isfinite().all(0)
    if bad.any():
        raise ValueError(
            f"the forget losses of samples {sorted(set(index[bad].tolist()))} of the forget set are not finite "
            f"({[column[bad][0].item() for column in columns]}): training has diverged or the precision is too "
            "low; lower learning_rate, or use bf16 or float32 instead of fp16"
        )
