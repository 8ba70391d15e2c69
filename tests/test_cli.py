"""The command line as a whole: help, mistyped words, and what it needs to start."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from baldro_ext.errors import install_command
from baldro_ext.tools.cli import app
from baldro_ext.tools.cli.shared import program

ROOT = Path(__file__).parents[1]
run = CliRunner().invoke

CONTENTS = {
    (): ["demo", "doctor", "run", "compare", "bench", "memory", "upstream", "framework", "workspace"],
    ("workspace",): ["tofu"],
    ("framework",): ["install", "path", "list"],
}
COMMANDS = [(*group, name) for group, names in CONTENTS.items() for name in names if (name,) not in CONTENTS]


@pytest.mark.parametrize("group", CONTENTS, ids=" ".join)
def test_help_is_a_table_of_contents(group: tuple[str, ...]) -> None:
    lines = run(app, [*group, "--help"]).output.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == CONTENTS[group]
    assert not any("..." in line for line in lines), "a summary is cut short"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_a_command_has_an_example(command: tuple[str, ...]) -> None:
    printed = run(app, [*command, "--help"]).output
    assert f"baldro {' '.join(command)}" in printed.split("Example")[1]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["dmo"], "demo"),
        (["framework", "instal"], "install"),
        (["workspace", "tofoo"], "tofu"),
        (["demo", "--sead", "1"], "--seed"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_closest(typed: list[str], meant: str) -> None:
    result = run(app, typed)
    assert result.exit_code == 2
    assert meant in result.stderr.split("Error:")[1].split("did you mean")[-1]


@pytest.mark.parametrize("option", ["bench --shape", "bench --bases", "memory --optimizer"])
@pytest.mark.parametrize("value", ["", ",", "tini", "small,tiny", " small"])
def test_a_value_that_an_option_does_not_have_is_refused(option: str, value: str) -> None:
    command, name = option.split()
    result = run(app, [command, name, value, *(["--model", "tiny"] if command == "memory" else [])])
    assert (result.exit_code, type(result.exception)) == (2, SystemExit), result.output
    assert name in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("called", "on_path", "printed"),
    [
        ("venv/bin/baldro", "", "venv/bin/baldro"),
        ("a folder/bin/baldro", "", "'a folder/bin/baldro'"),
        ("venv/bin/baldro", "venv/bin", "baldro"),
        ("cli/__main__.py", "", "baldro"),
    ],
)
def test_printed_commands_begin_as_the_program_was_called(
    called: str, on_path: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / called).parent.mkdir(parents=True)
    (tmp_path / called).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setenv("PATH", str(tmp_path / on_path) if on_path else "/nowhere")
    assert program() == printed


def test_version_is_printed() -> None:
    result = run(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout.startswith("baldro-ext ")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_start_imports_nothing_that_takes_long() -> None:
    slow = {"torch", "transformers", "hydra", "numpy", "pandas", "matplotlib", "scipy", "jinja2", "tabulate"}
    done = python(f"import baldro_ext.tools.cli, sys; print(*{slow} & set(sys.modules))")
    assert (done.returncode, done.stdout.split()) == (0, [])


@pytest.mark.parametrize("missing", ["typer", "filelock", "platformdirs"])
def test_without_the_extra_tools_the_command_says_what_to_install(missing: str) -> None:
    done = python(f"import sys; sys.modules[{missing!r}] = None; from baldro_ext.tools import main; main()")
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1, "no traceback"
    assert f"{missing}, " in done.stderr
    assert install_command("tools") in done.stderr


def test_what_is_installed_is_extended_by_its_name_and_without_an_index() -> None:
    command = shlex.split(install_command("tools"))
    assert command == ["pip", "install", "baldro_ext[tools]"]
    tried = [sys.executable, "-m", *command, "--dry-run", "--no-index", "--no-deps"]
    assert subprocess.run(tried, capture_output=True).returncode == 0


def test_what_runs_from_its_source_is_installed_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # where the metadata of packages is looked for
    source, extra = shlex.split(install_command("tools"))[-1].split("[")
    assert (Path(source) / "pyproject.toml").is_file()
    assert extra == "tools]"


def test_only_one_place_says_how_to_install_this_package() -> None:
    remedies = [
        path.name
        for path in ROOT.glob("baldro_ext/**/*.py")
        if re.search(r"pip install[^\n]*(baldro|/path/to|gguf|peft)", path.read_text())
    ]
    assert remedies == []
