"""The pull request to the framework: what it is made of, and which checkouts it may be made in."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from baldro_ext import losses, weightings
from baldro_ext.tools import framework as checkouts
from baldro_ext.tools.cli import app
from baldro_ext.tools.framework import GENERATIONS
from baldro_ext.tools.upstream import PullRequest, pull_request
from baldro_ext.tools.upstream.bundle import bundle
from baldro_ext.tools.upstream.checkout import Checkout
from baldro_ext.tools.upstream.configurations import configurations
from baldro_ext.tools.upstream.edits import add_row, extend_cell, register, signature_of, with_signature
from baldro_ext.tools.upstream.errors import StructureError

TRAINER = "src/trainer/unlearn/baldro.py"
TOUCHED = {"README.md", "docs/links.md", "src/trainer/__init__.py"}
DOCUMENT = "# Methods\n\n| Method | Link |\n| ------ | ---- |\n| A      | one  |\n\nText\n"
run = CliRunner().invoke


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def definitions(source: str) -> dict[str, str]:
    return {node.name: ast.dump(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


# Editing by structure, on texts of our own.


def test_bundle_puts_definitions_in_the_place_of_imports() -> None:
    source = (
        '"""Doc."""\nimport os\n\nfrom baldro_ext.weightings import top_group_weights\nfrom baldro_ext.losses import npo_losses\n\nSIZE = 1\n\n\n'
        "def mine():\n    return os, npo_losses\n"
    )
    result = bundle(source)
    assert list(definitions(result)) == ["top_group_weights", "npo_losses", "mine"]
    assert "baldro_ext" not in result
    assert result.index("import math") < result.index("import torch") < result.index("SIZE = 1") < result.index("def ")


def test_bundle_refuses_a_name_that_is_no_function() -> None:
    with pytest.raises(ValueError, match="defines no function nothing"):
        bundle("from baldro_ext.losses import nothing\n\n\ndef mine():\n    pass\n")


def test_registration_follows_the_others() -> None:
    source = "from trainer.unlearn.a import A\nimport logging\n\n_register_trainer(A)  # first\nrest = 1\n"
    assert register(source, "b", ["B", "C"]) == (
        "from trainer.unlearn.a import A\nfrom trainer.unlearn.b import B, C\nimport logging\n\n"
        "_register_trainer(A)  # first\n_register_trainer(B)\n_register_trainer(C)\nrest = 1\n"
    )


def test_rows_and_cells_are_found_by_heading_and_label() -> None:
    assert add_row(DOCUMENT, "Methods", ("B", "two")) == DOCUMENT.replace(
        "| A      | one  |\n", "| A      | one  |\n| B      | two |\n"
    )
    assert extend_cell("| **x** | a, b |\n| y | c |\n", "x", "d") == "| **x** | a, b, d |\n| y | c |\n"


@pytest.mark.parametrize(
    "edit",
    [
        lambda: register("import logging\n", "b", ["B"]),
        lambda: add_row("no table\n", "Methods", ("B", "two")),
        lambda: extend_cell("| y | c |\n", "x", "d"),
        lambda: signature_of("class A:\n    pass\n", "A", "run"),
    ],
)
def test_an_unknown_structure_is_refused(edit: object) -> None:
    with pytest.raises(StructureError, match="left as it is"):
        edit()  # type: ignore[operator]


def test_a_signature_moves_from_one_module_to_another() -> None:
    host = "class A:\n    def run(self, a):\n        return a\n"
    mine = "class B:\n    def run(\n        self, a, b=None\n    ):\n        return a\n"
    assert with_signature(mine, "B", "run", signature_of(host, "A", "run")) == host.replace("class A", "class B")


# In the framework's checkouts.


@pytest.fixture(params=list(GENERATIONS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the checkout of a generation; its transformers need not be installed."""
    found = checkouts.state(GENERATIONS[request.param])
    if found.kind != "installed":
        pytest.skip(f"open-unlearning {request.param} is not installed")
    return Path(shutil.copytree(found.path, tmp_path / "checkout", symlinks=True))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def test_in_a_clone_with_history_the_base_is_the_last_commit_that_is_known(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    known = {}
    for name in ("T1", "T2", "T3"):
        git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", name)
        known[name] = dataclasses.replace(
            GENERATIONS["G1"], name=name, commit=git(tmp_path, "rev-parse", "HEAD").strip()
        )
    assert Checkout.at(tmp_path, known).base.name == "T3"
    git(tmp_path, "checkout", "--quiet", known["T2"].commit)
    assert Checkout.at(tmp_path, known).base.name == "T2"
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "mine")
    assert Checkout.at(tmp_path, known).base.name == "T2"


@pytest.mark.framework
def test_a_clean_checkout_becomes_the_pull_request_once(folder: Path) -> None:
    before = tree(folder)
    first = run(app, ["upstream", str(folder)])
    assert first.exit_code == 0, first.output
    after = tree(folder)
    changed = {path for path in after if after[path] != before.get(path)}
    assert before.keys() <= after.keys()
    assert changed & before.keys() == TOUCHED
    assert f"{len(changed)} files" in first.stdout
    if ", on G2 " in first.stdout:
        (size,) = re.findall(r"\): (\d+ files, .*)\.", first.stdout)
        assert size in (Path(__file__).parents[1] / "docs" / "upstream.md").read_text()
    assert first.stdout.count("git -C ") + first.stdout.count("make -C ") == 5

    assert TRAINER in changed
    for path in TOUCHED:  # nothing but whole lines is added, and one cell extended
        old, new = (set(side[path].decode().splitlines()) for side in (before, after))
        assert len(old - new) == (1 if path == "README.md" else 0)
        assert all("baldro" in line.lower() for line in new - old)

    second = run(app, ["upstream", str(folder)])
    assert second.exit_code == 0
    assert "holds the pull request already" in second.stdout
    assert tree(folder) == after

    # Also when it was committed on a branch.
    git(folder, "switch", "--quiet", "--create", "add-baldro")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Add BalDRO")
    assert "holds the pull request already" in run(app, ["upstream", str(folder)]).stdout
    assert git(folder, "status", "--porcelain") == ""


@pytest.mark.framework
def test_the_dry_run_prints_a_diff_that_git_applies(folder: Path) -> None:
    diff = run(app, ["upstream", str(folder), "--dry-run"])
    assert git(folder, "status", "--porcelain") == ""
    (folder.parent / "change.diff").write_text(diff.stdout, encoding="utf-8")
    git(folder, "apply", "../change.diff")
    assert "holds the pull request already" in run(app, ["upstream", str(folder)]).stdout


@pytest.mark.framework
def test_the_method_is_the_packages_own(folder: Path) -> None:
    request = pull_request(Checkout.at(folder))
    source = request.files[TRAINER]
    ours = {
        name: text
        for module in (losses, weightings)
        for name, text in definitions(Path(module.__file__).read_text(encoding="utf-8")).items()
        if not name.startswith("_") and name in definitions(source)
    }
    assert {"npo_losses", "simnpo_losses", "satimp_token_losses", "top_group_weights"} < ours.keys()
    assert {name: text for name, text in definitions(source).items() if name in ours} == ours
    assert "baldro_ext" not in "".join(request.files[path] for path in request.files.keys() - request.originals.keys())
    host = (folder / "src/trainer/unlearn/grad_diff.py").read_text(encoding="utf-8")
    assert signature_of(source, "BalDRO", "compute_loss") == signature_of(host, "GradDiff", "compute_loss")
    for name, text in configurations(source).items():
        theirs = yaml.safe_load(text)
        assert theirs["defaults"] == [theirs["method_args"]["base"]]
        assert theirs["handler"] in name
        assert (folder / "configs" / "trainer" / f"{theirs['defaults'][0]}.yaml").exists()


@pytest.mark.framework
def test_the_description_keeps_the_form_and_ticks_its_boxes(folder: Path) -> None:
    form = (folder / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    text = run(app, ["upstream", str(folder), "--description"]).stdout
    headings = [line for line in form.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line in headings] == headings
    assert (text.count("- [ ]"), text.count("- [x]")) == (1, form.count("- [ ]") - 1)
    assert "arxiv.org/abs/2601.09172" in text


def damaged(request: PullRequest, folder: Path) -> None:
    request.write(folder)
    (folder / TRAINER).write_text("mine\n")


@pytest.mark.framework
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda request, folder: (folder / "README.md").write_text("mine\n"), "README.md"),
        (lambda request, folder: (folder / "src" / "new.py").write_text("mine\n"), "src/new.py"),
        (damaged, TRAINER),
        (lambda request, folder: git(folder, "commit", "--quiet", "--allow-empty", "-m", "mine"), None),
    ],
    ids=["modified", "untracked", "half-way", "empty-commit"],
)
@pytest.mark.parametrize("folder", ["G2"], indirect=True)
def test_a_dirty_checkout_is_refused_and_left_alone(folder: Path, change: object, named: str | None) -> None:
    change(pull_request(Checkout.at(folder)), folder)  # type: ignore[operator]
    before = tree(folder)
    result = run(app, ["upstream", str(folder)])
    if named is None:  # nothing in the tree differs from the known commit
        assert result.exit_code == 0
        return
    assert (result.exit_code, result.stdout) == (4, "")
    assert named in result.stderr
    assert "stash" in result.stderr
    assert tree(folder) == before


def test_an_unknown_checkout_is_refused(tmp_path: Path) -> None:
    result = run(app, ["upstream", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert "not the root of a git checkout" in result.stderr
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "mine")
    result = run(app, ["upstream", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert "4ad738a (G2)" in result.stderr
    assert os.listdir(tmp_path) == [".git"]
