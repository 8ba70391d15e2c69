"""Which sample is which, from dataset to batch, and draws that are a function of seed, epoch and index."""

import contextlib
import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from baldro_ext import ForgetRetainCollator, ForgetRetainDataset
from baldro_ext.data import SAMPLES, IndexedCollator, IndexedPairs, drawing


class ForgetRetain:
    """As open-unlearning's dataset: one side in order, the other drawn at random."""

    def __init__(self, forget: list[dict[str, Any]], retain: list[dict[str, Any]], anchor: str) -> None:
        self.forget, self.retain, self.anchor = forget, retain, anchor

    def __len__(self) -> int:
        return len(self.forget if self.anchor == "forget" else self.retain)

    def __getitem__(self, i: int) -> dict[str, Any]:
        if self.anchor == "forget":
            return {"forget": self.forget[i], "retain": self.retain[int(torch.randint(len(self.retain), ()))]}
        return {"retain": self.retain[i], "forget": self.forget[int(torch.randint(len(self.forget), ()))]}


def collate(items: Any) -> dict[str, Any]:
    """A collator that trips over keys it does not know."""
    assert all(side.keys() == {"input_ids", "labels"} for item in items for side in item.values())
    return {
        side: {key: torch.tensor([item[side][key] for item in items]) for key in ("input_ids", "labels")}
        for side in items[0]
    }


def sample(token: int) -> dict[str, Any]:
    return {"input_ids": [token, token], "labels": [-100, token]}


def pairs(anchor: str = "forget", forget: int = 12, retain: int = 40, seed: int = 0) -> IndexedPairs:
    sides = [sample(100 + i) for i in range(forget)], [sample(200 + i) for i in range(retain)]
    return IndexedPairs(ForgetRetain(*sides, anchor), seed)


def drawn(dataset: IndexedPairs, epoch: int, workers: int = 0) -> list[int]:
    """The retain samples of an epoch, in the order of the forget samples."""
    dataset.epoch = epoch
    loader = DataLoader(dataset, batch_size=3, collate_fn=IndexedCollator(collate), num_workers=workers)
    return [int(token) for batch in loader for token in batch["retain"]["input_ids"][:, 0]]


@pytest.mark.parametrize("anchor", ["forget", "retain"])
def test_indices_name_the_forget_samples_of_the_batch(anchor: str) -> None:
    dataset = pairs(anchor)
    for start in range(0, 12, 3):
        batch = IndexedCollator(collate)([dataset[i] for i in range(start, start + 3)])
        samples = batch["forget"][SAMPLES]
        assert (batch["forget"]["input_ids"][:, 0] - 100).tolist() == samples.index.tolist()
        assert samples.answers.tolist() == [[False, True]] * 3
        assert batch["retain"].keys() == {"input_ids", "labels", SAMPLES}
        assert len(batch["retain"][SAMPLES].index) == 0


def test_the_dataset_given_is_left_as_it_is() -> None:
    given = ForgetRetain([sample(1)], [sample(2)], "forget")
    dataset = IndexedPairs(given)
    assert given[0]["forget"] == sample(1)
    assert (dataset.drawn_once, len(dataset.forget), dataset.retain) == (True, 1, given.retain)
    assert not IndexedPairs(ForgetRetain(given.forget, given.retain, "retain")).drawn_once


@pytest.mark.parametrize("workers", [0, 2])
def test_a_draw_is_a_function_of_seed_epoch_and_index(workers: int) -> None:
    first = drawn(pairs(), 0)
    assert drawn(pairs(), 0, workers) == first
    assert drawn(pairs(), 1, workers) != first
    assert drawn(pairs(seed=1), 0, workers) != first
    assert len(set(first)) > 6
    dataset = pairs()
    dataset.epoch = 0
    assert [dataset[i]["retain"]["input_ids"][0] for i in (5, 3, 5)] == [first[5], first[3], first[5]]


def test_workers_that_live_on_draw_for_the_epoch_that_it_is() -> None:
    dataset = pairs()
    loader = DataLoader(
        dataset, batch_size=3, collate_fn=IndexedCollator(collate), num_workers=2, persistent_workers=True
    )
    for epoch in range(3):
        dataset.epoch = epoch
        found = [int(token) for batch in loader for token in batch["retain"]["input_ids"][:, 0]]
        assert found == drawn(pairs(), epoch)


def test_drawing_leaves_the_random_numbers_of_the_run_alone() -> None:
    torch.manual_seed(3)
    expected = (torch.rand(2), torch.initial_seed())
    torch.manual_seed(3)
    with drawing(0, 1, 2):
        one = torch.rand(2)
    assert (torch.equal(torch.rand(2), expected[0]), torch.initial_seed()) == (True, expected[1])
    with contextlib.suppress(ZeroDivisionError), drawing(0, 1, 2):
        assert torch.equal(torch.rand(2), one)
        raise ZeroDivisionError
    assert torch.initial_seed() == expected[1]


def test_draws_are_even() -> None:
    counts = torch.zeros(8)
    for epoch in range(400):
        with drawing(0, epoch, 0) as generator:
            counts[torch.randint(8, (1,), generator=generator)] += 1
    assert 25 < counts.min() <= counts.max() < 80  # 50 each, of a deviation of 7


def test_pairs_can_be_pickled() -> None:
    dataset = pickle.loads(pickle.dumps(pairs()))
    assert drawn(dataset, 2) == drawn(pairs(), 2)


def test_items_that_are_not_the_forget_samples_are_refused() -> None:
    class Short(ForgetRetain):
        def __len__(self) -> int:
            return 1

    with pytest.raises(ValueError, match="item i must hold forget sample i"):
        IndexedPairs(Short([sample(1), sample(2)], [sample(3)], "forget"))


def test_a_collator_without_labels_or_with_packed_rows_is_refused() -> None:
    items = [{"forget": sample(1)}, {"forget": sample(2)}]
    with pytest.raises(ValueError, match="forget batches have input_ids but no labels"):
        IndexedCollator(lambda _: {"forget": {"input_ids": 1}})(items)
    with pytest.raises(ValueError, match=r"1 rows of 2 forget samples.*instead of packing"):
        IndexedCollator(lambda _: {"forget": {"labels": torch.zeros(1, 4)}})(items)


def test_samples_to_evaluate_pass_as_they_are() -> None:
    batch = IndexedCollator(ForgetRetainCollator(0))([sample(1), sample(2)])
    assert batch.keys() == {"input_ids", "labels", "attention_mask"}


def test_a_retain_set_may_be_any_indexed_collection() -> None:
    torch.manual_seed(0)
    assert "retain" in ForgetRetainDataset([sample(1)], (sample(2),))[0]
    assert "retain" not in ForgetRetainDataset([sample(1)], [])[0]
    with pytest.raises(ValueError, match="the forget set is empty"):
        ForgetRetainDataset([])
