"""The file beside a checkpoint: what is saved is loaded, and what cannot serve is refused with what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baldro_ext.checkpoint import (
    FILE_NAME,
    StateError,
    digest_of,
    identity_of,
    load,
    newest_complete,
    save,
    step_of,
)
from baldro_ext.state import SampleState

ABOUT = {"step": "7", "fingerprint": "abc", "dv_beta": "2.0"}


@pytest.fixture
def state() -> SampleState:
    made = SampleState.blank(4)
    made.record(torch.tensor([2, 0]), torch.tensor([1.5, 0.25]), torch.tensor([-0.1, -0.2]))
    made.mark_seen(torch.tensor([2]))
    made.reference = torch.tensor([-1.0, -2.0, -3.0, -4.0], dtype=torch.float64)
    return made


def assert_same(found: SampleState, expected: SampleState) -> None:
    for name in ("losses", "hardness", "seen", "reference"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)


def test_what_is_saved_is_loaded(state: SampleState, tmp_path: Path) -> None:
    budget = torch.tensor([0.5, 0.6, 1.0, 2.0], dtype=torch.float64)
    save(state, tmp_path, ABOUT, budget=budget)
    found, found_budget = load(tmp_path, ABOUT, reference=True)
    assert_same(found, state)
    assert found_budget is not None
    assert found_budget.equal(budget)
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_servers_and_hubs_do_not_take_the_file_for_weights() -> None:
    assert not any(Path(FILE_NAME).match(pattern) for pattern in ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt"))


def test_the_file_is_plain_numpy(state: SampleState, tmp_path: Path) -> None:
    save(state, tmp_path, ABOUT)
    with np.load(tmp_path / FILE_NAME, allow_pickle=False) as file:
        assert file["losses"].tolist()[2] == 1.5
        assert json.loads(str(file["about"]))["dv_beta"] == "2.0"


def test_without_a_reference(tmp_path: Path) -> None:
    save(SampleState.blank(2), tmp_path, ABOUT)
    state, budget = load(tmp_path, ABOUT, reference=False)
    assert (state.reference, budget) == (None, None)
    with pytest.raises(StateError, match="no reference log-likelihoods"):
        load(tmp_path, ABOUT, reference=True)


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Damage that leaves a file which numpy reads without complaint."""

    def damage(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        np.savez(path, **arrays)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes()[:200] + b"\0" * 40 + path.read_bytes()[240:]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a zip file"),
        rewritten(lambda arrays: arrays.pop("losses")),
        rewritten(lambda arrays: arrays.pop("about")),
        rewritten(lambda arrays: arrays.update(losses=arrays["losses"][::-1])),
        rewritten(lambda arrays: arrays.update(losses=arrays["hardness"], hardness=arrays["losses"])),
        rewritten(lambda arrays: arrays.update(reference=arrays["reference"].astype(np.float32))),
        rewritten(lambda arrays: arrays.update(seen=arrays["seen"][:2])),
        rewritten(lambda arrays: arrays.update(more=np.zeros(2))),
        rewritten(lambda arrays: arrays.update(about=np.array("[]"))),
        rewritten(lambda arrays: arrays.update(about=np.array('{"format": "9"}'))),
    ],
    ids=[
        *("truncated", "overwritten", "empty", "something else", "a missing column", "no note", "permuted", "swapped"),
        *("another dtype", "shorter", "another column", "another note", "another format"),
    ],
)
def test_a_damaged_file_is_refused(state: SampleState, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    save(state, tmp_path, ABOUT)
    damage(tmp_path / FILE_NAME)
    with pytest.raises(StateError, match=r"baldro_state.npz is damaged .* start a new run from the model before"):
        load(tmp_path, ABOUT, reference=True)


def test_a_bit_flipped_in_the_archives_headers_is_refused_or_changes_nothing(
    state: SampleState, tmp_path: Path
) -> None:
    save(state, tmp_path, ABOUT)
    path, refused = tmp_path / FILE_NAME, 0
    written = path.read_bytes()
    central = written.index(b"PK\x01\x02")
    for place in (*range(30), *range(central, central + 46)):  # of the first file in it
        for bit in range(8):
            damaged = bytearray(written)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert_same(load(tmp_path, ABOUT, reference=True)[0], state)
            except StateError:
                refused += 1
    assert refused > 100


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"has no baldro_state.npz.*start a new run from the model before"):
        load(tmp_path, ABOUT, reference=True)


@pytest.mark.parametrize("name", ABOUT)
def test_the_file_of_another_run_is_refused_by_what_differs(state: SampleState, tmp_path: Path, name: str) -> None:
    save(state, tmp_path, ABOUT)
    with pytest.raises(StateError, match=f"another run .{name}: {ABOUT[name]} there, other here"):
        load(tmp_path, ABOUT | {name: "other"}, reference=True)
    with pytest.raises(StateError, match="more: None there, other here"):
        load(tmp_path, ABOUT | {"more": "other"}, reference=True)


def checkpoint_of(output: Path, step: int) -> Path:
    folder = output / f"checkpoint-{step}"
    save(SampleState.blank(2), folder, ABOUT)
    (folder / "rng_state.pth").touch()
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_the_newest_complete_checkpoint_is_found_and_what_is_skipped_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (9, 10, 11, 100):
        checkpoint_of(tmp_path, step)
    (tmp_path / "checkpoint-100" / "trainer_state.json").write_text('{"global_st')
    (tmp_path / "checkpoint-11" / FILE_NAME).unlink()
    (tmp_path / "checkpoint-best").mkdir()
    assert newest_complete(tmp_path).name == "checkpoint-10"
    assert "checkpoint-100 is incomplete (no readable trainer_state.json" in caplog.text
    assert "checkpoint-11 is incomplete (no baldro_state.npz)" in caplog.text
    assert "checkpoint-9" not in caplog.text


def test_without_a_complete_checkpoint_the_error_names_those_that_are_not(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no checkpoint to resume from in"):
        newest_complete(tmp_path)
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(StateError, match="checkpoint-3 is incomplete"):
        newest_complete(tmp_path)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    assert step_of(checkpoint_of(tmp_path, 5)) == 5
    for text in ("", "[]", "{}", '{"global_step": null}'):
        (tmp_path / "trainer_state.json").write_text(text)
        with pytest.raises(StateError, match="is not a Trainer checkpoint"):
            step_of(tmp_path)


class Data:
    def __init__(self, forget: list[int], retain: list[int]) -> None:
        self.forget, self.retain = (
            [{"input_ids": [token, 1], "labels": [-100, 1]} for token in side] for side in (forget, retain)
        )


def test_the_identity_tells_what_matters() -> None:
    config = {"hidden_size": 8, "_name_or_path": "a", "torch_dtype": "float32"}
    moved = {**config, "_name_or_path": "b", "torch_dtype": "bfloat16"}
    data = Data([1, 2, 3], [4, 5])
    identity = identity_of(data, config)
    assert identity_of(Data([1, 2, 3], [4, 5]), moved) == identity
    for name, other in {
        "model": identity_of(data, {**config, "hidden_size": 9}),
        "forget_set": identity_of(Data([1, 2, 4], [4, 5]), config),
        "retain_set": identity_of(Data([1, 2, 3], [4]), config),
    }.items():
        assert {key for key in identity if identity[key] != other[key]} == {name}


def test_samples_are_told_apart_by_number_and_tokens() -> None:
    samples = [{"input_ids": [i, 1], "labels": [-100, 1]} for i in range(200)]
    changed = [*samples[:7], {"input_ids": [9, 9], "labels": [-100, 9]}, *samples[8:]]
    assert digest_of(samples) != digest_of(changed)
    assert digest_of(samples, at_most=64) == digest_of(list(samples), at_most=64)
    assert digest_of(samples, at_most=64) != digest_of(samples[:-1], at_most=64)
    second = [{"original": sample, "alternate": samples[0]} for sample in samples]
    assert digest_of(second) == digest_of(samples)
