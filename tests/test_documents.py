"""Every command in the documents runs, or is composed, or is in a table that says why not.

A new document is found by itself. A new command needs a line in `RULES` only where none of them fits.
"""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import nbclient
import nbformat
import pytest
from typer.main import get_command

from baldro_ext import losses
from baldro_ext.tools.cli import app

from . import test_losses
from .documents import ROOT, Shown, commands, python_blocks


class Rule(NamedTuple):
    """How the commands that match a pattern are tried, and why not simply by typing them."""

    pattern: str
    how: str
    why: str = ""


RULES = (
    Rule(r"\bsrc/(train|eval)\.py\b", "compose", "they need a GPU and models; those for a CPU run as well"),
    Rule(r"^make quality$", "elsewhere", "the framework's own; test_upstream.py does what it does"),
    Rule(r"^(\S+=\S+ )?make ", "plan", "they install environments, or run these very tests"),
    Rule(r"^(\S*/)?baldro workspace tofu toy$", "elsewhere", "the fixture `toy` makes the folder by it"),
    Rule(r"^(\S*/)?baldro workspace\b", "elsewhere", "test_benchmarks.py makes a small one"),
    Rule(r"^(\S+=\S+ )*(\S*/)?baldro demo\b", "elsewhere", "test_demo.py runs it in a folder of its own"),
    Rule(r"baldro framework install\b", "elsewhere", "test_framework.py and test_cli.py install a small repository"),
    Rule(r"^(\S*/)?baldro (--help|doctor|framework (list|path)|\w+ --help)", "run"),
    Rule(
        r"^baldro (run|compare|bench|upstream)\b",
        "parse",
        "they take long, or need runs or a clone; each has its tests",
    ),
    Rule(r"^python -m tests\.gpu\.", "elsewhere", "they need a GPU"),
    Rule(r"^python -m tests\.", "run"),
    Rule(r"^(\S*python -m )?(pytest|ruff)\b", "elsewhere", "they are what `make test` runs"),
    Rule(r"^(python -m )?pip (install|wheel)\b", "elsewhere", "test_registration.py makes and installs a wheel"),
    Rule(r"^bash \.ci/run$", "elsewhere", "it runs these tests"),
    Rule(r"^accelerate launch$", "elsewhere", "a name in a sentence, no command"),
    Rule(r"^python setup_data\.py\b", "elsewhere", "it downloads, and is the framework's own"),
)


def rule(shown: Shown) -> Rule | None:
    """Return the first rule that fits."""
    return next((rule for rule in RULES if re.search(rule.pattern, shown.text)), None)


def shown_by(how: str) -> list[str]:
    """Return the distinct commands that are tried in this way."""
    return sorted({shown.text for shown in commands() if (found := rule(shown)) and found.how == how})


def test_every_command_is_tried_or_excused() -> None:
    assert len(commands()) > 40
    assert [shown for shown in commands() if rule(shown) is None] == []
    assert all(entry.why for entry in RULES if entry.how != "run")
    used = {rule(shown) for shown in commands()}
    assert [entry for entry in RULES if entry not in used] == [], "rules that fit no command any more"


def run(command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("command", shown_by("run"))
def test_command_runs(command: str) -> None:
    here = re.sub(r"^\S*baldro\b", f"{sys.executable} -m baldro_ext.tools.cli", command)
    here = re.sub(r"^python\b", sys.executable, here)
    done = run(here)
    # `doctor` ends with 1 where something would fail.
    assert done.returncode in ((0, 1) if command.endswith("doctor") else (0,))
    assert "Usage:" not in done.stderr
    assert "Traceback" not in done.stderr
    if command.startswith("python -m tests."):  # the document shows what it prints
        assert done.stdout in (ROOT / "docs" / "method.md").read_text()


@pytest.mark.parametrize("command", shown_by("parse"))
def test_command_has_these_options(command: str) -> None:
    _, name, *arguments = shlex.split(command, comments=True)
    subcommand = get_command(app).commands[name]  # type: ignore[attr-defined]
    if arguments:  # else it is only named
        with subcommand.make_context(name, arguments):
            pass


@pytest.mark.parametrize("command", shown_by("plan"))
def test_make_knows_the_target(command: str) -> None:
    done = run(f"{command.replace('make', 'make --dry-run', 1)}")
    assert done.returncode == 0, done.stderr


def test_python_sessions_print_what_they_show() -> None:
    sessions = [(name, block) for name, block in python_blocks() if ">>>" in block]
    assert sessions
    for name, block in sessions:
        test = doctest.DocTestParser().get_doctest(block, {}, name, name, 0)
        report: list[str] = []
        doctest.DocTestRunner(verbose=False).run(test, out=report.append)
        assert not report, "".join(report)


def test_the_forget_loss_of_contributing_passes_the_test_beside_it() -> None:
    loss, test = (block for name, block in python_blocks() if name == "CONTRIBUTING.md")
    names: dict[str, Any] = dict(vars(losses))
    try:
        exec(loss, names)
        exec(test, tests := {**vars(test_losses), "pytest": pytest, "WGA": names["WGA"]})
        (values,) = (mark.args[1] for mark in tests["test_wga"].pytestmark)
        for beta in values:
            tests["test_wga"](beta)
    finally:
        losses.FORGET_LOSSES.pop("WGA", None)


@pytest.mark.transformers
def test_the_example_of_the_plain_trainer_unlearns(toy: Path) -> None:
    example, adapters = (block for name, block in python_blocks() if name == "plain_trainer.md")
    assert len(example.splitlines()) <= 40
    show = "\nprint('losses', *(e['eval_forget_loss'] for e in trainer.state.log_history if 'eval_forget_loss' in e))"
    assert "learning_rate=1e-5" in example
    example = example.replace("learning_rate=1e-5", "learning_rate=5e-4")
    both = f"{example}{show}\n{adapters}".replace("report_to=[]", "use_cpu=True, report_to=[]")
    done = subprocess.run([sys.executable, "-c", both], cwd=toy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [float(word) for word in done.stdout.split("losses")[1].split("\n")[0].split()]
    assert len(losses) == 5
    assert losses[-1] > losses[0]
    assert {path.name for path in (toy / "adapters").glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert {path.name for path in (toy / "unlearned").glob("*.safetensors")} == {"model.safetensors"}


@pytest.mark.transformers
def test_the_notebook_runs_from_top_to_bottom(toy: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "plain_trainer.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "keep outputs out of the repository"
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(toy)}}).execute()
    (printed,) = (output.text for output in notebook.cells[-1].outputs)
    left = {method: float(rest.split()[0]) for method, rest in (line.split(": ", 1) for line in printed.splitlines())}
    assert list(left) == ["NPO", "BalDRO_DV", "by radius"]
    assert 0 < left["by radius"] < left["NPO"]
