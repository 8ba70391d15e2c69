"""The framework's commands in the documents: all compose, and those of the README run as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..documents import commands, python_blocks
from ..test_documents import shown_by
from .conftest import Framework

pytestmark = pytest.mark.framework
LONG = ("recipes.md", "paper_table.md")  # dozens of commands, for the primary generation


def test_every_command_of_the_framework_composes(framework: Framework) -> None:
    lines = [line for line in shown_by("compose") if framework.name == "G2" or commands()[line] not in LONG]
    assert framework.composes(*lines) >= len(lines)


@pytest.mark.generations("G2")
def test_the_commands_of_the_readme_run_in_a_folder_of_baldro_workspace(framework: Framework, toy: Path) -> None:
    lines = shown_by("compose")
    (train,) = (
        line for line in lines if line.endswith("trainer=BalDRO_DV_radius experiment=unlearn/tofu +hardware=cpu")
    )
    (evaluate,) = (line for line in lines if "task_name=again" in line and "+eval/balance" not in line)
    # Without evaluation in every epoch, which changes neither the model nor its name.
    quick = "eval_strategy=no eval_on_start=false do_eval=false report_to=none"
    train += "".join(f" trainer.args.{word}" for word in quick.split())
    for command in (train, f"{evaluate} +hardware=cpu_eval"):
        done = subprocess.run(
            ["bash", "-c", command.replace("python", sys.executable, 1)],
            cwd=toy,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads((toy / "saves/eval/again/TOFU_SUMMARY.json").read_text())
    assert {"forget_Q_A_Prob", "model_utility", "extraction_strength"} <= summary.keys()


@pytest.mark.generations("G2")
def test_the_program_of_the_settings_runs(framework: Framework, tmp_path: Path) -> None:
    ((_, program),) = [block for block in python_blocks() if block[0] == "settings.md"]
    (tmp_path / "open-unlearning").symlink_to(framework.checkout)
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
