"""The diagnosis: which traps it sees in which surroundings, and how the command ends."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from baldro_ext.tools.doctor import OURS, Surroundings, diagnose, look_around
from baldro_ext.tools.framework import GENERATIONS, REQUIRES

HEALTHY = Surroundings(
    python="3.12.1",
    versions={
        **dict.fromkeys((*OURS, *REQUIRES, "flash-attn", "bitsandbytes"), "1.0"),
        "torch": "2.13.0+cu130",
        "transformers": "5.5.4",
    },
    gpus=("H100",),
    has_git=True,
    cache=Path("cache"),
    cache_writable=True,
    cached={"G1": "missing", "G2": "missing", "G3": "installed"},
    checkout=Path("open-unlearning"),
    commit=GENERATIONS["G3"].commit,
    plugin=True,
)
OLD = HEALTHY.versions | {"transformers": "4.45.1"}
G2 = HEALTHY.versions | {"transformers": "4.51.3"}


def without(*names: str) -> dict[str, str]:
    return {name: version for name, version in HEALTHY.versions.items() if name not in names}


def test_where_all_is_well_nothing_needs_a_cure() -> None:
    assert {finding.level for finding in diagnose(HEALTHY)} == {"ok"}
    assert not any(finding.cure for finding in diagnose(HEALTHY))


@pytest.mark.parametrize(
    ("change", "level", "subject", "cure"),
    [
        ({"python": "3.10.2"}, "fails", "python", "use 3.11, 3.12 or 3.13"),
        ({"versions": without("baldro-ext")}, "fails", "baldro-ext", "pip install /path/to/baldro_ext"),
        ({"versions": without("lm-eval")}, "fails", "open-unlearning's packages", "baldro_ext[framework]"),
        ({"has_git": False}, "fails", "git", "install it"),
        ({"cache_writable": False}, "fails", "cache", "set BALDRO_CACHE"),
        (
            {"cached": dict.fromkeys(GENERATIONS, "missing")},
            "note",
            "checkouts in the cache",
            "baldro framework install",
        ),
        ({"commit": "f" * 40}, "note", "checkout here", "baldro framework list"),
        ({"commit": None}, "note", "checkout here", "baldro framework list"),
        (
            {"versions": HEALTHY.versions | {"transformers": "4.53.0"}},
            "fails",
            "checkout here",
            "pip install transformers==5.5.4",
        ),
        ({"plugin": False}, "fails", "Hydra plugin", "in the environment that runs src/train.py"),
        ({"plugin": None, "plugin_problem": "ImportError: x"}, "fails", "Hydra plugin", "see"),
        ({"gpus": ()}, "note", "GPU", "+hardware=cpu"),
        ({"versions": without("flash-attn")}, "fails", "flash attention", "attn_implementation=sdpa"),
        ({"versions": without("bitsandbytes")}, "fails", "bitsandbytes", "trainer.args.optim=adamw_torch"),
        ({"gpus": ("H100", "H100")}, "note", "several processes", "ddp_find_unused_parameters=false"),
        ({"versions": OLD, "checkout": None}, "note", "resuming", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"),
        ({"versions": G2, "checkout": None}, "note", "gradient accumulation", "gradient_accumulation_steps=1"),
    ],
)
def test_each_trap_is_named_with_its_cure(change: dict[str, Any], level: str, subject: str, cure: str) -> None:
    (found,) = (finding for finding in diagnose(dataclasses.replace(HEALTHY, **change)) if finding.level != "ok")
    assert (found.level, found.subject) == (level, subject)
    assert cure in found.cure


def test_the_command_tells_what_is_here(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "baldro_ext.tools.cli", "doctor"]
    environment = {"BALDRO_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env={**environment, "PATH": "/nowhere"}, capture_output=True, text=True
    )
    assert done.returncode == 1, "git is missing"
    told = json.loads(done.stdout)
    assert told["seen"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert [finding["subject"] for finding in told["findings"] if finding["level"] == "fails"] == ["git"]
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


@pytest.mark.parametrize(("provider", "active"), [("baldro_ext", True), ("main", False)])
def test_the_plugin_is_active_where_hydra_names_it_and_not_where_a_folder_does(
    tmp_path: Path, provider: str, active: bool
) -> None:
    checkout = tmp_path / "baldro_ext" / "checkout"
    lines = f"| Provider | Search path |\n| {provider}   | file://{checkout}/configs |"
    for file, content in {"src/train.py": f"print({lines!r})", "configs/train.yaml": ""}.items():
        (checkout / file).parent.mkdir(parents=True)
        (checkout / file).write_text(content)
    assert look_around(checkout).plugin is active


def test_a_checkout_that_does_not_start_is_told_with_its_last_line(tmp_path: Path) -> None:
    for file, content in {"src/train.py": "raise SystemExit('no such luck')", "configs/train.yaml": ""}.items():
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "baldro_ext.tools.cli", "doctor"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "src/train.py does not start: no such luck" in done.stdout
