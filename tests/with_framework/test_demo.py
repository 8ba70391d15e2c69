"""`baldro demo` in the folder of `baldro workspace tofu toy`."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.tools.cli import app

from .conftest import Framework

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]


def test_balanced_methods_leave_less_of_what_is_remembered_best(
    framework: Framework, toy: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(toy, tmp_path / "demo", symlinks=True, ignore=shutil.ignore_patterns("saves", "unlearned"))
    first = CliRunner().invoke(app, ["demo", str(folder)])
    assert first.exit_code == 0, first.output
    printed = first.stdout.split("the rest:\n\n")[1]
    rows = [line.split() for line in printed.split("\n\n")[0].splitlines()[1:]]
    # By how much differs between machines: docs/results.md.
    worst = {" ".join(row[:-6]): float(row[-5]) for row in rows}
    assert list(worst) == ["before", "NPO", "BalDRO_G", "BalDRO_DV", "BalDRO_DV_radius", "never knew"]
    assert worst["never knew"] < worst["BalDRO_DV_radius"] < worst["NPO"] < worst["before"]
    assert (folder / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert f"baldro compare {folder}/saves" in first.stdout

    again = CliRunner().invoke(app, ["demo", str(folder)])
    assert again.stdout.split("the rest:\n\n")[1] == printed
    assert again.stdout.count("done before") == 10
