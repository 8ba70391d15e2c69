"""Datasets and collators of forget-retain pairs whose forget samples carry their index.

A sample is a mapping with `input_ids` and `labels`, two lists or vectors of equal length; labels are `IGNORE_INDEX`
outside the answer. Any collection that gives such samples by index can be forgotten or retained.
"""

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, IterableDataset

from baldro_ext.answers import IGNORE_INDEX

SAMPLES = "samples"
"""Key of a batch's `Samples`."""
_INDEX = "sample_index"


def refuse_a_stream(name: str, dataset: Any) -> None:
    """Check that a dataset gives its samples by index.

    Raises:
        ValueError: It has no length, or is an `IterableDataset`.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"{name} is a stream ({type(dataset).__name__}), but the method has to know each sample by its index: pass "
            "a list or a dataset with a length; load a `datasets` dataset without streaming"
        )


class ForgetRetainDataset(Dataset[dict[str, Any]]):
    """Pairs each forget sample with a random retain sample, as in open-unlearning.

    Args:
        forget: Samples to forget: a list, a `datasets` dataset, or anything else with a length and indices.
        retain: Samples to keep; with `None` or none, training needs `alpha=0`.

    Raises:
        ValueError: There is nothing to forget, or samples cannot be read by index.
    """

    def __init__(self, forget: Any, retain: Any = None) -> None:
        for name, given in (("forget", forget), ("retain", [] if retain is None else retain)):
            refuse_a_stream(name, given)
        if len(forget) == 0:
            raise ValueError("the forget set is empty, so there is nothing to unlearn: give at least two samples")
        self.forget = forget
        self.retain = retain

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"forget": self.forget[index]}
        if self.retain is not None and len(self.retain):
            item["retain"] = self.retain[int(torch.randint(0, len(self.retain), (1,)))]
        return item


class IndexedPairs(Dataset[dict[str, Any]]):
    """Wraps a forget-retain dataset so that forget samples carry their index and random draws are reproducible.

    What the dataset draws at random for item i in an epoch, such as its retain sample, depends on seed, epoch and i
    only. So it does not change with the number of loader workers or after resuming, and it differs between
    data-parallel ranks, which have different items. This covers PyTorch's random numbers, which open-unlearning uses.

    Args:
        dataset: Yields `{"forget": sample, "retain": sample}`; its attribute `forget` holds the forget samples in the
            same order, as in open-unlearning's `ForgetRetainDataset`.
        seed: Seed of the draws.

    Attributes:
        forget: The forget set.
        drawn_once: Whether item i is forget sample i; otherwise items follow the retain set, and each draws a forget
            sample at random.

    Raises:
        ValueError: There is nothing to forget, item i cannot be forget sample i because their numbers differ, or the
            dataset has no length.
    """

    def __init__(self, dataset: Any, seed: int = 0) -> None:
        refuse_a_stream("train_dataset", dataset)
        self.forget: Any = getattr(dataset, "forget", None)
        if self.forget is None or len(self.forget) == 0:
            raise ValueError(
                "train_dataset has no forget samples in its attribute `forget`, so there is nothing to unlearn: use "
                "baldro_ext.ForgetRetainDataset(forget, retain), or in open-unlearning mode=unlearn and a split with "
                "samples for data.forget (forget_split=forget10 for TOFU)"
            )
        self.seed = seed
        self.drawn_once = getattr(dataset, "anchor", "forget") == "forget"
        if self.drawn_once and len(dataset) != len(self.forget):
            raise ValueError(
                f"train_dataset has {len(dataset)} items and {len(self.forget)} forget samples in its attribute "
                "`forget`: item i must hold forget sample i"
            )
        if not self.drawn_once:  # only the dataset knows which sample it draws
            dataset = copy.copy(dataset)
            dataset.forget = _Indexed(dataset.forget)
        self._dataset = dataset
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # loader workers may outlive an epoch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with drawing(self.seed, self.epoch, index):
            item = self._dataset[index]
        _require_mappings([item])
        return {**item, "forget": {**item["forget"], _INDEX: index}} if self.drawn_once else item

    @property
    def epoch(self) -> int:
        """The epoch whose samples are drawn, in this process and in running loader workers."""
        return int(self._epoch)

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)


class _Indexed(Dataset[dict[str, Any]]):
    """Adds to each sample its index."""

    def __init__(self, samples: Any) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._samples[index], _INDEX: index}


@contextmanager
def drawing(*key: int) -> Iterator[torch.Generator]:
    """Seed PyTorch's CPU generator from the given numbers, and restore its state afterwards."""
    generator = torch.default_generator
    state = generator.get_state()
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    generator.manual_seed(int.from_bytes(digest, "big") >> 1)
    try:
        yield generator
    finally:
        generator.set_state(state)


@dataclass(frozen=True)
class Samples:
    """What is known on the CPU about the B samples of a batch, so that no step waits for the device to learn it.

    Attributes:
        index: `(B,)` int64, their positions in the forget set; empty for retain samples.
        answers: `(B, T)` bool, the answer tokens.
        alternate: Those of the second answers, if there are any.
    """

    index: Tensor
    answers: Tensor
    alternate: Tensor | None = None

    @property
    def labeled(self) -> Tensor:
        """`(B,)` bool, whether a sample has an answer token that is predicted."""
        return self.answers[:, 1:].any(-1)


class IndexedCollator:
    """Wraps a collator and adds `Samples` to its batches; the collator itself does not see the indices.

    Raises:
        ValueError: A batch has no labels, or not one row per sample.
    """

    def __init__(self, collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]]) -> None:
        self.collator = collator

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the collator's batch, with `Samples` on both sides if it is one of forget-retain pairs."""
        if "forget" not in items[0]:
            return self.collator(items)
        _require_mappings(items)
        index = torch.tensor([item["forget"].get(_INDEX, 0) for item in items])
        plain = [{key: value for key, value in item["forget"].items() if key != _INDEX} for item in items]
        batch = self.collator([{**item, "forget": sample} for item, sample in zip(items, plain, strict=True)])
        for side, indices in (("forget", index), ("retain", index[:0])):
            if side in batch:
                batch[side] = {**batch[side], SAMPLES: _samples(side, batch[side], indices, len(items))}
        return batch


def original_of(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a sample or batch with the answers to forget alone, without the second answers that it may have."""
    part: Mapping[str, Any] = batch.get("original", batch)
    return part


def _require_mappings(items: Sequence[Mapping[str, Any]]) -> None:
    for side, sample in ((side, sample) for item in items for side, sample in item.items()):
        if side in ("forget", "retain") and not isinstance(sample, Mapping):
            raise ValueError(
                f"a {side} sample is a {type(sample).__name__}, not a mapping: pass samples such as "
                "{'input_ids': [5, 6], 'labels': [-100, 6]}"
            )


def _samples(side: str, batch: Mapping[str, Any], index: Tensor, size: int) -> Samples:
    alternate = _answer_tokens(side, batch["alternate"], size) if "alternate" in batch else None
    return Samples(index, _answer_tokens(side, original_of(batch), size), alternate)


def _answer_tokens(side: str, batch: Mapping[str, Any], size: int) -> Tensor:
    labels = batch.get("labels")
    if labels is None:
        raise ValueError(
            f"{side} batches have {', '.join(batch)} but no labels, so there is no answer to train on: use samples "
            "of input_ids and labels, or pairs {'original': sample, 'alternate': sample}"
        )
    if len(labels) != size:
        raise ValueError(
            f"the collator made {len(labels)} rows of {size} {side} samples, but the worst case over samples needs one "
            "row per sample: use a collator that pads instead of packing"
        )
    tokens: Tensor = labels != IGNORE_INDEX
    return tokens


class ForgetRetainCollator:
    """Pads samples to a batch; for forget-retain pairs, makes a batch of each side.

    Args:
        pad_token_id: Pads `input_ids`; the attention mask hides it, so any token works.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels`, `attention_mask`, each `(B, T)` int64; for pairs, such a batch for each key."""
        if "input_ids" not in items[0] and any(isinstance(part, Mapping) for part in items[0].values()):
            return {key: self([item[key] for item in items]) for key in items[0]}
        if lacking := [key for key in ("input_ids", "labels") if key not in items[0]]:
            raise ValueError(
                f"samples have {', '.join(items[0])}, but no {' and '.join(lacking)}: make them with "
                "baldro_ext.encode_answers(tokenizer, rows)"
            )
        ids, labels = ([torch.as_tensor(item[key]) for item in items] for key in ("input_ids", "labels"))
        return {
            "input_ids": _padded(ids, self.pad_token_id),
            "labels": _padded(labels, IGNORE_INDEX),
            "attention_mask": _padded([torch.ones_like(row) for row in ids], 0),
        }


def _padded(rows: list[Tensor], value: int) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=value)
