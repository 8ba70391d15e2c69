"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.tools.cli import app
from baldro_ext.tools.framework import GENERATIONS, Generation, location

ROOT = Path(__file__).parents[1]
run = CliRunner().invoke


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for name in ("OPEN_UNLEARNING_REPO", "GIT_DIR", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    repository = tmp_path / "source"
    repository.mkdir()
    git(repository, "init", "--quiet")
    (repository / "train.py").write_text("first\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "first")
    return repository


@pytest.fixture
def small(source: Path) -> dict[str, Generation]:
    """Two generations of the small repository, handed to the command in place of the real ones."""
    commit = git(source, "rev-parse", "HEAD")
    versions = {"T1": "4.51.3", "T2": "5.5.4"}
    return {name: Generation(name, commit, version, "0.4.11", "for tests") for name, version in versions.items()}


CONTENTS = {
    (): ["demo", "doctor", "run", "compare", "bench", "upstream", "framework", "workspace"],
    ("workspace",): ["tofu", "muse", "wmdp"],
    ("framework",): ["install", "path", "list"],
}
COMMANDS = [(*group, name) for group, names in CONTENTS.items() for name in names if (name,) not in CONTENTS]


def test_help_is_a_table_of_contents() -> None:
    for arguments, commands in CONTENTS.items():
        printed = run(app, [*arguments, "--help"]).output.split("Commands:\n")[1]
        assert [line.split()[0] for line in printed.splitlines()] == commands
        assert "..." not in printed  # no summary is cut short


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_has_an_example(command: tuple[str, ...]) -> None:
    told = run(app, [*command, "--help"]).output
    assert f"baldro {' '.join(command)}" in told.split("Example")[1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["dmo"], "demo"),
        (["framework", "instal"], "install"),
        (["workspace", "tofoo"], "tofu"),
        (["doctor", "--jsn"], "--json"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_closest(typed: list[str], meant: str) -> None:
    result = run(app, typed)
    assert result.exit_code == 2
    assert meant in result.stderr.split("Error:")[1].split("did you mean")[-1]


def test_version_is_printed() -> None:
    result = run(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("baldro-ext ")


def test_install_prints_one_aligned_line_per_generation(source: Path, small: dict[str, Generation]) -> None:
    first = run(app, ["framework", "install", "--source", str(source)], obj=small)
    assert first.exit_code == 0
    commit = small["T1"].commit[:7]
    assert first.stdout.splitlines() == [
        f"T1  {commit}  transformers 4.51.3  installed now  {location(small['T1'])}",
        f"T2  {commit}  transformers 5.5.4   installed now  {location(small['T2'])}",
    ]
    again = run(app, ["framework", "install", "t2"], obj=small)
    assert again.exit_code == 0
    assert again.stdout.split("  ")[3:] == ["already there", f"{location(small['T2'])}\n"]


def test_install_takes_the_source_from_the_environment(source: Path, small: dict[str, Generation]) -> None:
    result = run(app, ["framework", "install", "T1"], obj=small, env={"OPEN_UNLEARNING_REPO": str(source)})
    assert result.exit_code == 0


def test_install_of_unknown_generation_suggests_the_closest_and_installs_none(source: Path) -> None:
    result = run(app, ["framework", "install", "G2", "G11", "--source", str(source)])
    assert result.exit_code == 2
    assert "unknown framework generation 'G11': there are G1, G2, G3; did you mean G1?" in result.stderr
    assert not location(GENERATIONS["G2"]).parent.exists()


@pytest.mark.parametrize("fault", ["unreachable", "without the commit"])
def test_install_from_a_bad_source_exits_3_without_traceback(fault: str, source: Path) -> None:
    spelled = str(source) + ("-gone" if fault == "unreachable" else "")
    command = [sys.executable, "-m", "baldro_ext.tools.cli", "framework", "install", "G2", "--source", spelled]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 3
    assert result.stdout == ""
    assert f"cannot get open-unlearning G2 (4ad738a) from {spelled}\n" in result.stderr
    assert "OPEN_UNLEARNING_REPO=" in result.stderr
    assert "Traceback" not in result.stderr


def test_install_refuses_a_modified_checkout_with_4_and_still_serves_the_others(
    source: Path, small: dict[str, Generation]
) -> None:
    run(app, ["framework", "install", "T1", "--source", str(source)], obj=small)
    (location(small["T1"]) / "train.py").write_text("mine\n")
    result = run(app, ["framework", "install", "--source", str(source)], obj=small)
    assert result.exit_code == 4
    assert "has changes: train.py" in result.stderr
    assert result.stdout.startswith("T2")


def test_path_prints_the_path_and_nothing_else(source: Path, small: dict[str, Generation]) -> None:
    run(app, ["framework", "install", "T1", "--source", str(source)], obj=small)
    result = run(app, ["framework", "path", "t1"], obj=small)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{location(small['T1'])}\n", "")


def test_path_of_a_missing_checkout_exits_2_and_says_what_to_do() -> None:
    result = run(app, ["framework", "path"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "\nInstall it with: baldro framework install G2\n" in result.stderr
    assert "OPEN_UNLEARNING_REPO=" in result.stderr


def test_path_of_another_commit_exits_2(source: Path, small: dict[str, Generation]) -> None:
    run(app, ["framework", "install", "T1", "--source", str(source)], obj=small)
    git(location(small["T1"]), "commit", "--quiet", "--allow-empty", "--message", "mine")
    result = run(app, ["framework", "path", "T1"], obj=small)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "baldro framework install T1" in result.stderr


def test_list_as_json_has_full_commits_and_states(source: Path, small: dict[str, Generation]) -> None:
    run(app, ["framework", "install", "T1", "--source", str(source)], obj=small)
    first, second = json.loads(run(app, ["framework", "list", "--json"], obj=small).stdout)
    assert (first["state"], second["state"]) == ("installed", "missing")
    assert first["commit"] == small["T1"].commit
    assert first["path"] == str(location(small["T1"]))


def test_list_marks_the_primary_generation() -> None:
    records = json.loads(run(app, ["framework", "list", "--json"]).stdout)
    assert [record["name"] for record in records if record["primary"]] == ["G2"]


def test_list_is_an_aligned_table_and_says_what_to_install() -> None:
    result = run(app, ["framework", "list"])
    head, *rows = result.stdout.splitlines()
    column = head.index("state")
    assert [row[column:].split()[0] for row in rows] == ["missing"] * 3
    assert "baldro framework install G1 G2 G3" in result.stderr


def test_import_is_light() -> None:
    code = "import baldro_ext.tools.cli, sys; print(*{'torch', 'transformers', 'hydra', 'numpy', 'matplotlib', 'scipy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
