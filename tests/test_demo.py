"""The demo without the framework, in the folder of `baldro workspace tofu toy`; `.ci/run` runs it with the framework."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.cli import app
from baldro_ext.demo.outcome import Outcome, table


def test_worst_decile_and_largest_are_of_the_best_remembered_answers() -> None:
    outcome = Outcome("NPO", tuple(number / 100 for number in range(20)), {"utility": 0.5, "quality": None})
    assert (outcome.mean, outcome.worst_decile, outcome.largest) == pytest.approx((0.095, 0.185, 0.19))
    assert table([outcome]).splitlines()[1].split() == ["NPO", "0.095", "0.185", "0.190", "0.500", "-"]


def test_the_demo_runs_where_the_framework_cannot_be_had(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPEN_UNLEARNING_REPO", str(tmp_path / "gone"))
    folder = shutil.copytree(toy, tmp_path / "demo", symlinks=True, ignore=shutil.ignore_patterns("saves", "unlearned"))
    first = CliRunner().invoke(app, ["demo", str(folder)])
    assert first.exit_code == 0, first.output
    assert first.stdout.count("Without open-unlearning (cannot get open-unlearning G2") == 1
    head, *rows = first.stdout.split("rest:\n\n")[1].split("\n\n")[0].splitlines()
    assert head.split() == ["probability", "worst", "decile", "largest", "retained", "answers"]
    left = {name: [float(number) for number in numbers] for name, *numbers in map(str.split, rows)}
    assert list(left) == ["target", "NPO", "BalDRO_G", "BalDRO_DV", "retain90"]
    for method in ("BalDRO_G", "BalDRO_DV"):
        assert left[method][1] < left["NPO"][1] < left["target"][1], "the worst decile is what BalDRO lowers"
        assert left[method][3] > 0.7
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")

    models = {path: path.stat().st_mtime_ns for path in folder.glob("saves/plain/*/model.safetensors")}
    again = CliRunner().invoke(app, ["demo", str(folder)])
    assert again.stdout.split("rest:")[1] == first.stdout.split("rest:")[1]
    assert {path: path.stat().st_mtime_ns for path in models} == models
