"""The demo's table, and what it says where the framework cannot be had; `with_framework/test_demo.py` runs it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.tools import demo
from baldro_ext.tools.cli import app
from baldro_ext.tools.compare.evaluations import read_evaluation
from tests.compare.folders import write_evaluation


def test_the_table_has_worst_decile_and_largest_of_the_answers_remembered_best(tmp_path: Path) -> None:
    samples = {"forget_Q_A_Prob": [number / 100 for number in range(20)]}
    write_evaluation(tmp_path, samples, {"forget_quality": None, "model_utility": 0.5})
    head, row = demo.table({"NPO": read_evaluation(tmp_path)}).splitlines()
    assert head.split() == [
        "probability",
        "worst",
        "decile",
        "largest",
        "extraction",
        "forget",
        "quality",
        "model",
        "utility",
    ]
    assert row.split() == ["NPO", "0.095", "0.185", "0.190", "-", "-", "0.500"]


def test_where_the_framework_cannot_be_fetched_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPEN_UNLEARNING_REPO", str(tmp_path / "gone"))
    result = CliRunner().invoke(app, ["demo", str(tmp_path / "demo")])
    assert result.exit_code == 3
    assert "OPEN_UNLEARNING_REPO=" in result.stderr
    assert not (tmp_path / "demo").exists()
