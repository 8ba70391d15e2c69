"""Every command in the documents is checked, or is in a table that says why not; the Python there runs.

A new document is found by itself. A new kind of command needs a line in `CHECKED` or `EXCUSED`.
"""

import doctest
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
import typer
from typer.main import get_command

from baldro_ext import losses
from baldro_ext.losses import distributions
from baldro_ext.tools.cli import app

from . import test_losses
from .documents import DOCUMENTS, ROOT, commands, python_blocks

CHECKED = {
    "compose": r"\bsrc/(train|eval)\.py\b",  # in with_framework/test_documents.py; those for a CPU run there, too
    "baldro": r"^(\S+=\S+ )*(\S*/)?baldro\b",
    "make": r"^(\S+=\S+ )*make (?!quality)",
    "run": r"^python -m tests\.(?!gpu|kill)",
}
"""How commands are checked, by a pattern; what the commands do is tested beside the code."""
EXCUSED = {
    r"^make quality$": "the framework's own; test_upstream.py does what it does",
    r"^python -m tests\.gpu\.": "they need a GPU",
    r"^(\S+=\S+ )*(\S*python -m )?(pytest|ruff)\b": "they are what `make test` runs",
    r"^python -m tests\.kill": "many kills, of which test_resuming.py and test_runs.py do a few",
    r"^(python -m )?pip (install|wheel)\b": "test_registration.py makes and installs a wheel",
    r"^bash \.ci/run$": "it runs these tests",
    r"^accelerate launch$": "a name in a sentence, no command",
    r"^python setup_data\.py\b": "it downloads, and is the framework's own",
}


def shown_by(how: str) -> list[str]:
    """Return the distinct commands that are checked in this way."""
    return sorted(text for text in commands() if re.search(CHECKED[how], text))


def test_every_command_is_checked_or_excused() -> None:
    patterns = {*CHECKED.values(), *EXCUSED}
    matching = {text: {pattern for pattern in patterns if re.search(pattern, text)} for text in commands()}
    assert len(matching) > 40
    assert [(text, commands()[text]) for text in matching if not matching[text]] == []
    assert patterns - set().union(*matching.values()) == set(), "patterns that fit no command any more"


def parse(text: str) -> None:
    """Parse a line that calls baldro, with its options and their values; raise a usage error as the command would."""
    words = shlex.split(re.sub(r"^.*?\bbaldro\b", "", re.sub(r"\$\w+", "1", text)))
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    if words:  # else it is only named
        with command.make_context(command.name, words):
            pass


def alternatives(text: str) -> list[str]:
    """Return what `baldro framework install|path|list` stands for."""
    words = [word.split("|") for word in text.split(" ")] if re.search(r"\w\|\w", text) else [[text]]
    return [" ".join(chosen) for chosen in itertools.product(*words)]


@pytest.mark.parametrize("text", [one for text in shown_by("baldro") for one in alternatives(text)])
def test_baldro_takes_these_arguments(text: str) -> None:
    parse(text.removesuffix(" --help"))


@pytest.mark.parametrize(
    "text", ["baldro rum NPO", "baldro run NPO --sedes 0", "baldro bench --rounds three", "baldro workspace tofu a b"]
)
def test_parsing_refuses_what_baldro_refuses(text: str) -> None:
    with pytest.raises((KeyError, typer.BadParameter.__bases__[0])):
        parse(text)


@pytest.mark.parametrize("text", shown_by("make"))
def test_make_has_this_target_and_these_variables(text: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    target, *settings = shlex.split(text[text.index("make ") :])[1:]
    assert target in re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    assert {word.split("=")[0] for word in settings} <= {*re.findall(r"^(\w+) \?=", makefile, re.MULTILINE)}


@pytest.mark.parametrize("text", shown_by("run"))
def test_command_prints_what_the_document_shows(text: str) -> None:
    done = subprocess.run([sys.executable, *text.split()[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any(done.stdout in document.read_text() for document in DOCUMENTS)


@pytest.mark.parametrize(("name", "block"), [shown for shown in python_blocks() if ">>>" in shown[1]])
def test_python_session_prints_what_it_shows(name: str, block: str) -> None:
    report: list[str] = []
    session = doctest.DocTestParser().get_doctest(block, {}, name, name, 0)
    doctest.DocTestRunner(verbose=False).run(session, out=report.append)
    assert not report, "".join(report)


def test_the_forget_loss_of_contributing_passes_the_test_beside_it() -> None:
    loss, test = (block for name, block in python_blocks() if name == "CONTRIBUTING.md" and "IHL" in block)
    names: dict[str, Any] = dict(vars(distributions))
    known = dict(losses.FORGET_LOSSES)
    try:
        exec(loss, names)
        exec(test, tests := {**vars(test_losses), "IHL": names["IHL"]})
        tests["test_ihl"]()
    finally:
        losses.FORGET_LOSSES.clear()
        losses.FORGET_LOSSES.update(known)


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
def test_the_notebook_runs_from_top_to_bottom_and_shows_what_it_printed(toy: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "plain_trainer.ipynb", as_version=4)
    example = next(block for name, block in python_blocks() if name == "plain_trainer.md")
    start = example[example.index("name =") : example.index("model =")]
    assert start in f"{notebook.cells[1].source}\n", "model and data are those of the document"
    shown = [output.output_type for cell in notebook.cells for output in cell.get("outputs", ())]
    assert shown == ["display_data", "stream"], "the picture and the answers, without progress bars and warnings"
    committed = notebook.cells[-1].outputs
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(toy)}}).execute()
    for output in (*committed, *notebook.cells[-1].outputs):
        lines = [line.split(": ", 1) for line in output.text.splitlines()]
        left = {method: float(rest.split()[0]) for method, rest in lines}
        assert list(left) == ["NPO", "BalDRO_DV", "by radius"]
        assert 0 < left["by radius"] < left["NPO"]
