"""Which problems the doctor finds in which environment, and how the command ends."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from baldro_ext.errors import BaldroError
from baldro_ext.tools.cli import app
from baldro_ext.tools.doctor import GPU_ONLY, OURS, Environment, inspect_environment, run_checks
from baldro_ext.tools.framework import GENERATIONS, REQUIRES, made_for

HEALTHY = Environment(
    python="3.12.1",
    versions={
        **dict.fromkeys((*OURS, *REQUIRES, *GPU_ONLY), "1.0"),
        "torch": "2.13.0+cu130",
        "transformers": "5.5.4",
    },
    gpus=("H100",),
    has_git=True,
    cached=("G3",),
    checkout=GENERATIONS["G3"].commit,
    plugin=True,
)


def with_versions(**changed: str) -> dict[str, Any]:
    return {"versions": {**HEALTHY.versions, **changed}}


def without(name: str) -> dict[str, Any]:
    return {"versions": {other: version for other, version in HEALTHY.versions.items() if other != name}}


@pytest.mark.parametrize("version", ["4.45.9", "4.46.0", "4.51.0", "5.5.0.dev0", "5.50.4"])
def test_the_doctor_calls_a_checkout_fit_where_the_commands_use_it(version: str) -> None:
    try:
        used = made_for(version).name
    except BaldroError:
        used = ""
    for gen in GENERATIONS.values():
        here = dataclasses.replace(HEALTHY, checkout=gen.commit, **with_versions(transformers=version))
        (check,) = (check for check in run_checks(here) if check.subject == "checkout here")
        assert check.level == ("ok" if gen.name == used else "fails")


def test_a_healthy_environment_needs_no_fix() -> None:
    assert {(check.level, check.fix) for check in run_checks(HEALTHY)} == {("ok", "")}


@pytest.mark.parametrize(
    ("change", "level", "subject", "fix"),
    [
        ({"python": "3.10.2"}, "fails", "python", "use Python 3.11 to 3.13"),
        (without("baldro-ext"), "fails", "baldro-ext", "pip install baldro_ext"),
        (without("lm-eval"), "fails", "open-unlearning's packages", "baldro_ext[framework]"),
        ({"has_git": False}, "fails", "git", "install it"),
        ({"cached": ()}, "note", "cached checkouts", "baldro framework install"),
        ({"checkout": "f" * 40}, "note", "checkout here", "baldro framework list"),
        ({"checkout": "unknown"}, "note", "checkout here", "baldro framework list"),
        (with_versions(transformers="4.53.0"), "fails", "checkout here", "transformers==5.5.4"),
        ({"plugin": False}, "fails", "Hydra plugin", "in the environment that runs src/train.py"),
        ({"plugin": "ImportError: x"}, "fails", "Hydra plugin", "above"),
        ({"plugin": None}, "note", "Hydra plugin", ""),
        ({"others": {"Theirs": "cannot be imported"}}, "note", "from other packages", ""),
        ({"gpus": ()}, "note", "GPU", "+hardware=cpu"),
        (without("flash-attn"), "fails", "flash-attn", "attn_implementation=sdpa"),
        (without("bitsandbytes"), "fails", "bitsandbytes", "trainer.args.optim=adamw_torch"),
        ({"gpus": ("H100", "H100")}, "note", "several processes", "ddp_find_unused_parameters=false"),
        (
            {**with_versions(transformers="4.45.1"), "checkout": None},
            "note",
            "resuming",
            "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1",
        ),
        (
            {**with_versions(transformers="4.51.3"), "checkout": None},
            "note",
            "accumulation",
            "+accumulation=averaged",
        ),
    ],
)
def test_each_problem_is_named_with_its_fix(change: dict[str, Any], level: str, subject: str, fix: str) -> None:
    (check,) = (check for check in run_checks(dataclasses.replace(HEALTHY, **change)) if check.level != "ok")
    assert (check.level, check.subject) == (level, subject)
    assert fix in check.found + check.fix


def test_the_command_prints_what_is_here_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor"])
    found = {line.split()[1]: line.split() for line in done.stdout.splitlines() if line[:1].strip()}
    assert done.exit_code == 1, "git is missing"
    assert found["python"] == ["ok", "python", ".".join(map(str, sys.version_info[:3]))]
    assert found["git"][0] == "fails"
    assert list(tmp_path.iterdir()) == []


def make_checkout(folder: Path, script: str) -> Path:
    for file, content in {"src/train.py": script, "configs/train.yaml": ""}.items():
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(content)
    return folder


@pytest.mark.parametrize(("provider", "active"), [("baldro_ext", True), ("main", False)])
def test_the_plugin_is_active_where_hydra_names_it_and_not_where_a_folder_does(
    tmp_path: Path, provider: str, active: bool
) -> None:
    folder = tmp_path / "baldro_ext" / "checkout"
    lines = f"| Provider | Search path |\n| {provider}   | file://{folder}/configs |"
    here = inspect_environment(make_checkout(folder, f"print({lines!r})"), print)
    assert (here.plugin, here.checkout) == (active, "unknown")


def test_a_checkout_that_does_not_start_is_shown_with_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_checkout(tmp_path, "raise SystemExit('no such luck')"))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "fails  Hydra plugin" in done.stdout
    assert "no such luck" in done.stdout
    assert "Starting src/train.py" in done.stderr, "what takes long is announced"
