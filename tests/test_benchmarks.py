"""Working folders made from the command line: stand-ins, links, and what is left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from baldro_ext.tools.cli import app
from baldro_ext.tools.workspace.benchmarks import BENCHMARKS, WorkspaceError, lay_out

STAND_IN = "HuggingFaceH4/zephyr-7b-beta"
run = CliRunner().invoke


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    place = tmp_path / "checkout"
    (place / "src").mkdir(parents=True)
    (place / "configs").mkdir()
    return place


def test_a_folder_has_data_models_and_the_frameworks_scripts(tmp_path: Path, checkout: Path) -> None:
    lay_out(BENCHMARKS["wmdp"], tmp_path / "toy", checkout)
    moved = (tmp_path / "toy").rename(tmp_path / "moved")
    assert AutoModelForCausalLM.from_pretrained(moved / STAND_IN).num_parameters() > 0
    assert (moved / "data/wmdp/wmdp-corpora/cyber-forget-corpus.jsonl").is_file()
    assert (moved / "src").resolve() == checkout / "src"
    assert os.path.isabs(os.readlink(moved / "src"))
    assert not os.path.isabs(os.readlink(moved / STAND_IN))


def test_making_it_again_changes_nothing_but_follows_another_checkout(tmp_path: Path, checkout: Path) -> None:
    lay_out(BENCHMARKS["wmdp"], tmp_path / "toy", checkout)
    model = tmp_path / "toy/models/wmdp_random/model.safetensors"
    written = model.stat().st_mtime_ns
    (tmp_path / "moved").mkdir()
    other = checkout.rename(tmp_path / "moved" / "other")
    lay_out(BENCHMARKS["wmdp"], tmp_path / "toy", other)
    assert model.stat().st_mtime_ns == written
    assert (tmp_path / "toy/src").resolve() == other / "src"


def test_a_checkout_may_be_the_working_folder(tmp_path: Path, checkout: Path) -> None:
    lay_out(BENCHMARKS["wmdp"], checkout, tmp_path)
    assert not (checkout / "src").is_symlink()


@pytest.mark.parametrize("mine", [STAND_IN, "data/wmdp/wmdp-corpora/cyber-forget-corpus.jsonl"])
def test_what_is_there_already_stays_and_is_named(tmp_path: Path, mine: str) -> None:
    (tmp_path / mine).parent.mkdir(parents=True)
    (tmp_path / mine).write_text("mine")
    with pytest.raises(WorkspaceError, match=Path(mine).name):
        lay_out(BENCHMARKS["wmdp"], tmp_path)
    assert (tmp_path / mine).read_text() == "mine"


def test_links_of_ones_own_stay(tmp_path: Path, checkout: Path) -> None:
    mine = tmp_path / "elsewhere" / "mine"
    (mine / "src").mkdir(parents=True)
    toy = tmp_path / "toy"
    toy.mkdir()
    (toy / "src").symlink_to(mine / "src")
    lay_out(BENCHMARKS["wmdp"], toy, checkout)
    assert (toy / "src").resolve() == mine / "src"
    (toy / STAND_IN).unlink()
    (toy / STAND_IN).symlink_to(mine)
    with pytest.raises(WorkspaceError, match="zephyr"):
        lay_out(BENCHMARKS["wmdp"], toy, checkout)
    assert (toy / STAND_IN).resolve() == mine


def test_the_command_prints_what_to_type_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "empty"))
    result = run(app, ["workspace", "wmdp", str(tmp_path / "toy")])
    assert result.exit_code == 0
    assert f"cd {tmp_path / 'toy'}" in result.stdout
    for _, command in BENCHMARKS["wmdp"].commands:
        assert command in result.stdout
    assert "baldro framework install G2" in result.stderr, "without a checkout there is no src"


def test_refusals_have_exit_codes(tmp_path: Path) -> None:
    assert run(app, ["workspace", "wmdp", str(tmp_path), "--framework", "G9"]).exit_code == 2
    (tmp_path / "file").touch()
    assert run(app, ["workspace", "wmdp", str(tmp_path / "file")]).exit_code == 1
    (tmp_path / "HuggingFaceH4").mkdir()
    (tmp_path / STAND_IN).write_text("mine")
    assert run(app, ["workspace", "wmdp", str(tmp_path)]).exit_code == 4
