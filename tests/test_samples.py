"""Sample indices from dataset to batch, and the random draws that a resumed run repeats."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baldro_ext.samples import INDEX, DrawHistory, IndexedCollator, Pairs


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
    assert all(side.keys() == {"input_ids"} for item in items for side in item.values())
    return {key: {"input_ids": torch.tensor([item[key]["input_ids"] for item in items])} for key in items[0]}


def batches(anchor: str, draws: DrawHistory, size: int = 2) -> list[dict[str, Any]]:
    forget = [{"input_ids": 100 + i} for i in range(6)]
    retain = [{"input_ids": 200 + i} for i in range(9)]
    pairs = Pairs(ForgetRetain(forget, retain, anchor), draws)
    collator = IndexedCollator(collate, draws)
    return [collator([pairs[i] for i in range(start, start + size)]) for start in range(0, 6, size)]


@pytest.mark.parametrize("anchor", ["forget", "retain"])
def test_indices_name_the_forget_samples_of_the_batch(anchor: str) -> None:
    for batch in batches(anchor, DrawHistory()):
        assert (batch["forget"]["input_ids"] - 100).tolist() == batch["forget"][INDEX].tolist()
        assert batch["retain"].keys() == {"input_ids"}


def test_the_dataset_given_is_left_as_it_is() -> None:
    given = ForgetRetain([{"input_ids": 1}], [{"input_ids": 2}], "forget")
    pairs = Pairs(given, DrawHistory())
    assert given[0]["forget"] == {"input_ids": 1}
    assert (pairs.drawn_once, len(pairs.forget), pairs.retain) == (True, 1, given.retain)
    assert not Pairs(ForgetRetain(given.forget, given.retain, "retain"), DrawHistory()).drawn_once


@pytest.mark.parametrize("trained", [0, 1, 2])
def test_batches_fetched_but_not_trained_on_are_drawn_again_as_they_were(trained: int) -> None:
    torch.manual_seed(3)
    before = DrawHistory()
    fetched = [batch["retain"]["input_ids"].tolist() for batch in batches("forget", before)]
    for _ in range(trained):
        before.trained()
    state = before.next_state
    assert state is not None

    torch.manual_seed(99)
    after = DrawHistory()
    after.resume_from(state)
    again = [batch["retain"]["input_ids"].tolist() for batch in batches("forget", after)]
    assert after.resumed
    assert again[: 3 - trained] == fetched[trained:]


def test_nothing_is_pending_once_all_is_trained() -> None:
    draws = DrawHistory()
    for _ in batches("forget", draws):
        draws.trained()
    assert draws.next_state is None
