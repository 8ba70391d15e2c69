"""Damaged results end in one message that names the file and what to do, or are left out with a note."""

import contextlib
import functools
import json
import math
import operator
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from baldro_ext.errors import BaldroError
from baldro_ext.tools.cli import app
from baldro_ext.tools.compare import compare
from baldro_ext.tools.compare.export import latex, markdown
from baldro_ext.tools.compare.formatting import text
from tests.compare.folders import Workspace, write, write_evaluation

FILES = {
    "state": "saves/unlearn/mine/trainer_state.json",
    "model": "saves/unlearn/mine/config.json",
    "config": "saves/unlearn/mine/.hydra/config.yaml",
    "hydra": "saves/unlearn/mine/.hydra/hydra.yaml",
    "checkpoint": "saves/unlearn/mine/checkpoint-10/evals/TOFU_EVAL.json",
    "samples": "saves/eval/mine/TOFU_EVAL.json",
    "summary": "saves/eval/mine/TOFU_SUMMARY.json",
    "general": "saves/eval/mine/LMEval_SUMMARY.json",
    "study": "saves/eval/mine/study.json",
    "evaluating": "saves/eval/mine/.hydra/config.yaml",
}
STUDY = {
    "label": "mine", "trainer": "NPO", "seed": 0, "benchmark": "TOFU", "split": "forget10", "model": "models/target",
    "retain_logs": None, "lm_eval": ["mmlu"], "versions": {"transformers": "4.51.3"},
}  # fmt: skip
DEEP = 2_000
WRITTEN: dict[str, bytes] = {
    "empty": b"",
    "binary": bytes(range(256)),
    "deep list": b"[" * DEEP + b"]" * DEEP,
    "deep mapping": b'{"trainer": ' * DEEP + b"1" + b"}" * DEEP,
    "huge integer": b'{"trainer": {"args": {"seed": %s}}}' % (b"9" * 5000),
    "list": b"[1, 2]",
    "number": b"5",
    "not a number": b"NaN",
    "text": b'"text"',
    "alias": b"a: &a [1, 1, 1, 1]\nb: &b [*a, *a, *a, *a]\nc: [*b, *b]\n",
    "tag": b"!!python/object/apply:os.getcwd []",
}


def result(folder: Path) -> tuple[int, str, str]:
    """Exit code, standard output and error of a comparison, which must not end in a traceback."""
    done = CliRunner().invoke(app, ["compare", str(folder / "saves/unlearn"), "--out", str(folder / "out")])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def build(folder: Path) -> Path:
    """Two runs, one with every file; their per-sample metric is in no picture, as pictures take a second each."""
    workspace = Workspace(folder)
    for name, trainer in (("mine", "NPO"), ("other", "BalDRO_DV")):
        path = workspace.run(name, trainer, gamma=1.0)
        aggregates = {"forget_quality": 1e-3, "model_utility": 0.8}
        write_evaluation(path, {"forget_Q_A_ROUGE": [0.1, 0.2]}, aggregates)
    write(folder / FILES["study"], STUDY)
    write(folder / FILES["model"], {"transformers_version": "4.51.3"})
    write(folder / FILES["general"], {"mmlu/acc": 0.4, "mmlu/acc_stderr": 0.1})
    write_evaluation((folder / FILES["checkpoint"]).parent, {"forget_Q_A_ROUGE": [0.1, 0.2]})
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build(tmp_path_factory.mktemp("sound") / "work")
    assert result(folder)[0] == 0
    return folder


@pytest.fixture
def work(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "work"))


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read everything, so it is somebody else for a while."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)


def check(folder: Path, file: str, named: str = "") -> str:
    """One message with the file and a remedy, and exit code 1; return it."""
    code, output, error = result(folder)
    assert code == 1, (code, output, error)
    assert error.startswith("Error: ")
    assert (named or str(folder / FILES[file])) in error
    assert "eave this run out" in error
    assert output == ""
    return error


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("file", FILES)
def test_other_content_is_told(work: Path, file: str, kind: str) -> None:
    (work / FILES[file]).write_bytes(WRITTEN[kind])
    remedy = "evaluate again" in check(work, file)
    assert remedy == (file in ("checkpoint", "samples", "summary", "general"))


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_was_cut_off_is_told(work: Path, file: str) -> None:
    path = work / FILES[file]
    path.write_bytes(path.read_bytes()[:-9])
    check(work, file)


@pytest.mark.parametrize("file", FILES)
def test_a_folder_or_a_broken_link_in_place_of_a_file_is_told(work: Path, file: str) -> None:
    path = work / FILES[file]
    path.unlink()
    path.mkdir()
    check(work, file)
    path.rmdir()
    path.symlink_to("nowhere")
    check(work, file)


@pytest.mark.parametrize("place", ["file", "folder"])
@pytest.mark.parametrize("file", ["state", "samples", "config"])
def test_what_may_not_be_read_is_told(file: str, place: str) -> None:
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp())
    try:
        build(folder / "work")
        path = folder / "work" / FILES[file]
        for made in (folder, *folder.rglob("*")):
            made.chmod(0o755)
        (path if place == "file" else path.parent).chmod(0)
        with unprivileged():
            check(folder / "work", file, named=str(path if place == "file" else path.parent))
    finally:
        shutil.rmtree(folder)


VALUES = (
    True,
    "text",
    [],
    {},
    1.5,
    10**400,
    math.nan,
    1e308,
    2**63,
    "9" * 5000,
    {"a": [{}]},
    "${a}",
    "a\0\ud800$\\frac{",
)


def nodes(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is within a JSON document."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from nodes(value, (*path, key))


@pytest.mark.parametrize("file", FILES)
def test_no_value_of_another_kind_leads_to_a_traceback(work: Path, file: str) -> None:
    """Each value within a file in turn becomes one of another kind."""
    path = work / FILES[file]
    original = path.read_text()
    for turn, place in enumerate(nodes(json.loads(original))):
        content = json.loads(original)
        parent = functools.reduce(operator.getitem, place[:-1], content)
        parent[place[-1]] = VALUES[turn % len(VALUES)]
        path.write_text(json.dumps(content))
        with contextlib.suppress(BaldroError):
            comparison = compare([work / "saves/unlearn"])
            text(comparison).encode()
            latex(comparison).encode()
            markdown(comparison).encode()


def test_a_name_that_could_steer_a_terminal_or_a_formula_is_only_a_name(work: Path) -> None:
    name = "\x1b[31m\ud800$\\frac{"
    write(work / FILES["study"], {**STUDY, "label": name})
    write_evaluation((work / FILES["samples"]).parent, {"forget_Q_A_Prob": [0.1, 0.2]}, {"model_utility": 0.8})
    code, output, error = result(work)
    assert (code, error) == (0, "")
    assert "\x1b" not in output
    assert "$\\frac{" in output
