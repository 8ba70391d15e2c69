"""The adversary: which forget samples count how much, over a batch or the whole forget set, on all ranks.

The only place where numbers of a training step leave the model's device, are brought together from all data-parallel
ranks, become float64, and are kept from step to step. Ranks average their gradients, so each rank's share of a sum
over all samples counts as many times as there are ranks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from baldro_ext.state import SampleState
from baldro_ext.weightings import Weighting

Gather = Callable[[Tensor], Tensor]
"""From a tensor `(m, k)` of the same shape on each of R ranks to all of them, `(R * m, k)`, in the order of the
ranks."""

_UNLABELED, _KNOWN, _TRAINED = range(3)
_WORTHWHILE = 2 / 3
"""Largest share of samples trained on for which a scoring pass before it is cheaper than training on all."""


@dataclass(frozen=True)
class Weights:
    """What the adversary chose for the micro-batch of this rank, B samples.

    Attributes:
        value: `()` float64, the worst case of the losses over its whole scope.
        gradient: `(B,)` float64, what each sample's loss is weighed with; `(B, K)` where the unit is the token.
        distribution: `(m,)` float64, sum 1: the whole distribution Q that this came from; empty where there is none.
        mean: Of the losses that are in the micro-batch, on all ranks; `None` where there are none.
    """

    value: Tensor
    gradient: Tensor
    distribution: Tensor
    mean: float | None

    @property
    def rows(self) -> Tensor:
        """`(m,)` int64, the samples with a weight above 0."""
        positive = self.gradient > 0
        return (positive if positive.ndim == 1 else positive.any(-1)).nonzero()[:, 0]


class Adversary:
    """Chooses the worst-case distribution Q over the forget samples.

    Args:
        weighting: The rule.
        size: Number n of forget samples.
        scope: Where Q lives: `batch` for the micro-batch's own samples on all ranks, `dataset` for the whole set.
        unit: What Q ranges over: `sample`, or `token` for the answer tokens of this rank's micro-batch.
        by_loss: Whether samples are chosen by the losses themselves and not by another hardness.
        rank: Which of the data-parallel ranks this is.
        ranks: How many there are.
        gather: Brings their rows together, where there are several.
        capacity: Number of samples in a micro-batch of a rank; where one holds more, another exchange finds out.
        drawn_once: Whether an epoch draws every sample once, so that a repetition is padding.

    Attributes:
        state: What is known of the samples.
    """

    def __init__(
        self,
        weighting: Weighting,
        size: int,
        *,
        scope: Literal["batch", "dataset"] = "batch",
        unit: Literal["sample", "token"] = "sample",
        by_loss: bool = True,
        rank: int = 0,
        ranks: int = 1,
        gather: Gather | None = None,
        capacity: int = 1,
        drawn_once: bool = False,
    ) -> None:
        self.weighting = weighting
        self.scope = scope
        self.unit = unit
        self.by_loss = by_loss
        self.capacity = capacity
        self.drawn_once = drawn_once
        self.state = SampleState.blank(size)
        self._rank = rank
        self._ranks = ranks
        self._gather = gather if ranks > 1 else None

    @property
    def scores_first(self) -> bool:
        """Whether a micro-batch is scored without a graph, so that only the chosen samples are trained on."""
        return self.scope == "batch" and self._share <= _WORTHWHILE

    def rows_to_train(self, index: Tensor, labeled: Tensor) -> Tensor:
        """Return the rows of a micro-batch that have to pass the model: those that may get a weight above 0.

        Args:
            index: `(B,)` int64, the samples' places in the forget set.
            labeled: `(B,)` bool, whether they have an answer.
        """
        if not self._chooses_from_state:
            return torch.arange(len(index))
        return (labeled & (self._over_the_set()[index] > 0)).nonzero()[:, 0]

    def weights(
        self, index: Tensor, labeled: Tensor, losses: Tensor, hardness: Tensor, rows: Tensor | None = None
    ) -> Weights:
        """Choose for this rank's micro-batch, together with those of the other ranks, and remember its losses.

        Args:
            index: `(B,)` int64 on the CPU, the samples' places in the forget set.
            labeled: `(B,)` bool on the CPU, whether they have an answer.
            losses: `(m,)` of `rows`, on any device.
            hardness: `(m,)`, likewise: what Q is chosen by.
            rows: `(m,)` int64 on the CPU, which samples passed the model; by default all.

        Raises:
            ValueError: Losses are not finite; names the samples.
        """
        rows = torch.arange(len(index)) if rows is None else rows
        where, status, loss, hard, own = self._on_all_ranks(index, labeled, losses, hardness, rows)
        trained, known = status == _TRAINED, status > _UNLABELED
        _require_finite(where[trained], loss[trained], hard[trained])
        fresh = self.state.mark_seen(where)
        if self.drawn_once:  # a repetition that only fills up a batch is as if it were not there
            trained, known = trained & fresh, known & fresh
        chosen = self._over_the_set() if self._chooses_from_state else None
        self.state.record(where[trained], loss[trained], hard[trained])
        share = torch.zeros(len(where), dtype=torch.float64)
        if not known.any():
            return Weights(share.sum(), share[own], share[:0], None)

        if self.scope == "batch":
            worst = self.weighting.worst_case(hard[known])
            share[known] = distribution = worst.weights
            value = worst.value if self.by_loss else (share * loss).sum()
        else:
            everywhere = self._over_the_set() if chosen is None else chosen
            distribution = everywhere[self.state.known]
            # An unbiased estimate of the sum over the whole set from a micro-batch of it.
            share[known] = everywhere[where[known]] * (len(distribution) / int(known.sum()))
            value = self._value_over_the_set(everywhere)
        mean = float(self.state.losses[where[known]].mean())
        return Weights(value, share[own] * self._ranks, distribution, mean)

    def token_weights(self, index: Tensor, mask: Tensor, losses: Tensor, hardness: Tensor) -> Weights:
        """Choose among the answer tokens of this rank's micro-batch; by `nll`, among its samples, spread over tokens.

        Args:
            index: `(B,)` int64 on the CPU, the samples' places in the forget set.
            mask: `(B, K)` bool, the answer tokens, on any device.
            losses: `(B, K)`, likewise.
            hardness: `(B, K)` as the losses, or `(B,)` where samples are chosen by another hardness.

        Raises:
            ValueError: Losses are not finite; names the samples.
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

    def score(
        self, state: SampleState, index: Tensor, labeled: Tensor, losses: Tensor, hardness: Tensor, sums: Tensor
    ) -> None:
        """Enter the numbers of a scoring pass on all ranks in a state.

        Args:
            state: To write to.
            index: `(B,)` int64 on the CPU; each rank may have another, of any number.
            labeled: `(B,)` bool on the CPU.
            losses: `(B,)`, on any device.
            hardness: `(B,)`, likewise.
            sums: `(B,)`, log-likelihoods of the answers, which become the reference where there is one.

        Raises:
            ValueError: Losses are not finite; names the samples.
        """
        host = torch.stack([index, labeled.long()], 1)
        table, _ = self._rows_of_all(host, torch.stack([losses, hardness, sums], 1))
        where, answered = table[:, 0].long(), table[:, 1] > 0
        _require_finite(where[answered], *table[answered, 2:].unbind(1))
        state.record(where[answered], table[answered, 2], table[answered, 3])
        if state.reference is not None:
            state.reference[where] = table[:, 4]

    def distribution(self) -> Tensor:
        """Return the worst case over the samples with a loss: float64, sum 1, by index; empty where none has one."""
        return self._over_the_set()[self.state.known]

    @property
    def _share(self) -> float:
        """The share of samples with a weight above 0, as far as the weighting fixes one."""
        return self.weighting.share if self.unit == "sample" else 1.0

    @property
    def _chooses_from_state(self) -> bool:
        """Whether a micro-batch's samples are chosen by what was known of them before it."""
        return self.scope == "dataset" and self._share < 1

    def _over_the_set(self) -> Tensor:
        """Return `(n,)` float64, the worst case over the whole forget set, 0 where a sample has no loss."""
        known = self.state.known
        everywhere = torch.zeros(len(known), dtype=torch.float64)
        if known.any():
            everywhere[known] = self.weighting.weights(self.state.hardness[known])
        return everywhere

    def _value_over_the_set(self, weights: Tensor) -> Tensor:
        losses = self.state.losses[self.state.known]
        if self.by_loss and not self._chooses_from_state:
            return self.weighting.worst_case(losses).value
        return (weights[self.state.known] * losses).sum()

    def _on_all_ranks(
        self, index: Tensor, labeled: Tensor, losses: Tensor, hardness: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return index, status, loss and hardness of all ranks' samples, and where this rank's B stand among them."""
        status = labeled.long() * _KNOWN
        status[rows] = labeled[rows].long() * _TRAINED
        others = torch.ones(len(index), dtype=torch.bool)
        others[rows] = False
        order = torch.cat([rows, others.nonzero()[:, 0]])
        numbers = torch.stack([losses, hardness], 1).detach()
        numbers = torch.cat([numbers, numbers.new_zeros(len(index) - len(rows), 2)])
        table, own = self._rows_of_all(torch.stack([index, status], 1)[order], numbers)
        places = torch.arange(len(table))[own]
        return table[:, 0].long(), table[:, 1].long(), table[:, 2], table[:, 3], places[order.argsort()]

    def _rows_of_all(self, host: Tensor, numbers: Tensor) -> tuple[Tensor, slice]:
        """Bring rows of all ranks together on the CPU: one transfer, and one exchange where there are several.

        Args:
            host: `(m, j)` int64 on the CPU; below 2^24, which float32 holds exactly.
            numbers: `(m, k)` on any device.

        Returns:
            `(M, j + k)` float64 in the order of the ranks, and where this rank's own stand.
        """
        if self._gather is None:
            return torch.cat([host.double(), _exact(numbers)], 1), slice(0, len(host))
        rows = torch.cat([upload(host, like=numbers), numbers], 1)
        while True:
            # One row more says how many there are; should a rank have more than fit, all see it and make room.
            table = rows.new_zeros(self.capacity + 1, rows.shape[1])
            table[0] = len(rows)
            if len(rows) <= self.capacity:
                table[1 : len(rows) + 1] = rows
            blocks = _exact(self._gather(table)).view(self._ranks, self.capacity + 1, -1)
            counts = [int(block[0, 0]) for block in blocks]
            if max(counts) <= self.capacity:
                break
            self.capacity = max(counts)
        start = sum(counts[: self._rank])
        everything = torch.cat([block[1 : count + 1] for block, count in zip(blocks, counts, strict=True)])
        return everything, slice(start, start + len(rows))


def upload(numbers: Tensor, like: Tensor) -> Tensor:
    """Return numbers of the CPU in the precision and on the device of others, without waiting for it where it can."""
    return numbers.to(like.dtype).to(like.device, non_blocking=like.is_cuda)


def _exact(numbers: Tensor) -> Tensor:
    """Return numbers on the CPU in float64; in this order, because not every device has float64."""
    return numbers.detach().cpu().double()


def _require_finite(index: Tensor, *columns: Tensor) -> None:
    bad = ~torch.stack(columns).isfinite().all(0)
    if bad.any():
        raise ValueError(
            f"the forget losses of samples {sorted(set(index[bad].tolist()))} of the forget set are not finite "
            f"({[column[bad][0].item() for column in columns]}): training has diverged or the precision does not "
            "suffice; lower learning_rate, or use bf16 or float32 instead of fp16"
        )
