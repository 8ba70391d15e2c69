"""The ledger's entries and its file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from baldro_ext.ledger import FILE_NAME, Ledger, LedgerError, fingerprint


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger.blank(4)
    made.record(torch.tensor([2, 0]), torch.tensor([1.5, 0.25]), torch.tensor([-0.1, -0.2]))
    made.visit(torch.tensor([2]))
    made.reference = torch.tensor([-1.0, -2.0, -3.0, -4.0], dtype=torch.float64)
    return made


def test_entries(ledger: Ledger) -> None:
    assert ledger.known.tolist() == [True, False, True, False]
    assert ledger.losses[[0, 2]].tolist() == [0.25, 1.5]
    ledger.record(torch.tensor([0]), torch.tensor([9.0]), torch.tensor([9.0]))
    assert ledger.losses[0] == 9.0


def test_a_repetition_within_an_epoch_is_told(ledger: Ledger) -> None:
    assert ledger.visit(torch.tensor([1, 2, 1, 3])).tolist() == [True, False, False, True]
    assert ledger.visited.tolist() == [False, True, True, True]


def test_what_is_saved_is_loaded(ledger: Ledger, tmp_path: Path) -> None:
    draw = torch.get_rng_state()
    ledger.save(tmp_path, 7, "abc", draw)
    found, drawn = Ledger.load(tmp_path, 7, "abc")
    for name in ("losses", "hardness", "visited", "reference"):
        torch.testing.assert_close(getattr(found, name), getattr(ledger, name), rtol=0, atol=0, equal_nan=True)
    assert drawn is not None
    assert torch.equal(drawn, draw)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_without_reference_and_draw(tmp_path: Path) -> None:
    Ledger.blank(2).save(tmp_path, 1, "abc")
    found, drawn = Ledger.load(tmp_path, 1, "abc")
    assert found.reference is None
    assert drawn is None


@pytest.mark.parametrize(
    ("step", "print_", "damage", "message"),
    [
        (7, "abc", Path.unlink, "has no baldro_ledger.safetensors, so its reference likelihoods are lost"),
        (7, "abc", lambda path: path.write_bytes(path.read_bytes()[:-9]), "is damaged"),
        (7, "abc", lambda path: path.write_bytes(b""), "is damaged"),
        (8, "abc", lambda path: None, "is of another optimizer step: it says 7, this run 8"),
        (7, "xyz", lambda path: None, "is of another model, tokenizer, dataset or template: it says abc, this run xyz"),
    ],
    ids=["missing", "truncated", "empty", "of another step", "of another run"],
)
def test_a_file_that_cannot_serve_is_refused_with_what_to_do(  # type: ignore[no-untyped-def]
    ledger: Ledger, tmp_path: Path, step: int, print_: str, damage, message: str
) -> None:
    ledger.save(tmp_path, 7, "abc")
    damage(tmp_path / FILE_NAME)
    with pytest.raises(LedgerError, match=re.escape(message)) as caught:
        Ledger.load(tmp_path, step, print_)
    assert "start anew from the model before unlearning" in str(caught.value)


def test_the_fingerprint_tells_what_matters() -> None:
    config = {"hidden_size": 8, "_name_or_path": "a", "torch_dtype": "float32"}
    shapes = {"w": [2, 3]}
    same = fingerprint({**config, "_name_or_path": "b", "torch_dtype": "bfloat16"}, shapes, "data")
    assert fingerprint(config, shapes, "data") == same
    others = [
        fingerprint({**config, "hidden_size": 9}, shapes, "data"),
        fingerprint(config, {"w": [3, 2]}, "data"),
        fingerprint(config, shapes, "other data"),
    ]
    assert same not in others
