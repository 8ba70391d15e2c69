"""Which forget sample is which, from the dataset to the loss; and the random draws of a run, so it can resume.

Wraps a dataset of `{"forget": sample, "retain": sample}` items with the forget samples, in the same order, in its
attribute `forget`, as open-unlearning's `ForgetRetainDataset`, and its collator. The model's inputs stay as they are.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

INDEX = "sample_index"
"""Key of a sample's place in the forget set, and of the `(B,)` int64 places in a batch."""


class Indexed(Dataset[dict[str, Any]]):
    """A dataset whose samples know their place in it."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.samples[index], INDEX: index}


def without_index(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample as its dataset gave it."""
    return {key: value for key, value in sample.items() if key != INDEX}


class DrawHistory:
    """The CPU random state before each batch that was fetched but not yet trained on.

    Batches are fetched ahead of training, and a batch's retain samples are drawn as it is fetched. To
    resume exactly, the next batch must be drawn again from the state it was drawn from at first.
    """

    def __init__(self) -> None:
        self._pending: deque[Tensor] = deque()
        self._inside_batch = False
        self._restore: Tensor | None = None
        self.resumed = False

    @property
    def next_state(self) -> Tensor | None:
        """State from which the next batch to train on was drawn; `None` if it was not fetched yet."""
        return self._pending[0] if self._pending else None

    def resume_from(self, state: Tensor) -> None:
        """Draw the first batch from this state."""
        self._restore = state

    def before_sample(self) -> None:
        """Note the state if a new batch begins."""
        if self._inside_batch:
            return
        if self._restore is not None:
            torch.set_rng_state(self._restore)
            self._restore, self.resumed = None, True
        self._inside_batch = True
        self._pending.append(torch.get_rng_state())

    def after_batch(self) -> None:
        """Note that a batch is complete."""
        self._inside_batch = False

    def trained(self) -> None:
        """Forget the state of the batch that was trained on."""
        if self._pending:
            self._pending.popleft()


class Pairs(Dataset[dict[str, Any]]):
    """A forget-retain dataset whose forget samples carry their index.

    Attributes:
        forget: The forget set.
        drawn_once: Whether an epoch draws every forget sample once, and not at random beside the retain set.

    Raises:
        ValueError: Items and forget samples, which should be in one order, differ in number.
    """

    def __init__(self, dataset: Any, draws: DrawHistory) -> None:
        self.forget = Indexed(dataset.forget)
        self.drawn_once = getattr(dataset, "anchor", "forget") == "forget"
        if self.drawn_once and len(dataset) != len(self.forget):
            raise ValueError(
                f"train_dataset has {len(dataset)} items and {len(self.forget)} forget samples in its attribute "
                "`forget`: item i must hold forget sample i"
            )
        if not self.drawn_once:  # only the dataset itself knows which sample it draws
            dataset = copy.copy(dataset)
            dataset.forget = self.forget
        self._dataset = dataset
        self._draws = draws

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self._draws.before_sample()
        item = self._dataset[index]
        return {**item, "forget": {**item["forget"], INDEX: index}} if self.drawn_once else item


class IndexedCollator:
    """A collator that hands the forget samples' indices on, past one that would drop them or trip over them."""

    def __init__(self, collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]], draws: DrawHistory) -> None:
        self._collator = collator
        self._draws = draws

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the collator's batch, with `batch["forget"][INDEX]`; samples to evaluate pass as they are."""
        if "forget" not in items[0]:
            return self._collator(items)
        self._draws.after_batch()
        indices = torch.tensor([item["forget"][INDEX] for item in items])
        batch = self._collator([{**item, "forget": without_index(item["forget"])} for item in items])
        batch["forget"][INDEX] = indices
        return batch
