"""The demo without the framework, in the folder of `baldro workspace tofu toy`; `.ci/run` runs it with the framework."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.tools import demo
from baldro_ext.tools.cli import app
from baldro_ext.tools.commands import RunError
from baldro_ext.tools.demo import METHODS, with_framework
from baldro_ext.tools.demo.outcome import Outcome, table


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
    assert list(left) == ["target", *METHODS, "retain90"]
    # By how much differs between machines: docs/results.md.
    assert left["BalDRO_DV_radius"][1] < left["NPO"][1] < left["target"][1], "the worst decile is what BalDRO lowers"
    assert all(numbers[0] < 0.75 and numbers[3] > 0.7 for name, numbers in left.items() if name in METHODS)
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")

    models = {path: path.stat().st_mtime_ns for path in folder.glob("saves/plain/*/model.safetensors")}
    other = CliRunner().invoke(app, ["demo", str(folder), "--seed", "1"])
    assert other.exit_code == 4
    assert "Another seed or release makes other files" in other.stderr
    again = CliRunner().invoke(app, ["demo", str(folder)])
    assert again.stdout.split("rest:")[1] == first.stdout.split("rest:")[1]
    assert {path: path.stat().st_mtime_ns for path in models} == models


def test_without_the_frameworks_packages_the_demo_says_which() -> None:
    said: list[str] = []
    assert demo._checkout(said.append, ("scipy", "no-such-package")) is None
    assert said == [
        "Without open-unlearning (it needs no-such-package): the same losses on a plain transformers.Trainer."
    ]


def test_a_command_that_fails_ends_the_demo_at_once(tmp_path: Path) -> None:
    for script, content in {
        "train": "import time; time.sleep(60)",
        "eval": "import sys; sys.exit('task_name=target' in sys.argv)",
    }.items():
        file = tmp_path / "checkout" / "src" / f"{script}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    started = time.monotonic()
    with pytest.raises(RunError, match="cannot evaluate target"):
        with_framework.outcomes(tmp_path, tmp_path / "checkout", METHODS, 0, lambda line: None)
    assert time.monotonic() - started < 30
