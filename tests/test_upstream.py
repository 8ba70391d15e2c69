"""The pull request to the framework: it says the same as this package, and changes only the checkouts it may."""

import ast
import inspect
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from baldro_ext import losses, weightings
from baldro_ext.config import Settings
from baldro_ext.errors import RefusedError
from baldro_ext.open_unlearning.registration import config_directory
from baldro_ext.tools import framework as checkouts
from baldro_ext.tools.cli import app
from baldro_ext.tools.upstream import BASE, NEW_FILES, PullRequest, insert_after

TRAINER = "src/trainer/unlearn/baldro.py"
EDITED = {"README.md", "docs/links.md", "src/trainer/__init__.py"}
CONFIGURATIONS = sorted((NEW_FILES / "configs" / "trainer").glob("*.yaml"))
run = CliRunner().invoke


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


# What goes upstream is what the package does.


@pytest.mark.parametrize(
    "function",
    [
        losses.npo_losses,
        losses.simnpo_losses,
        losses.satimp_token_losses,
        weightings.donsker_varadhan_weights,
        weightings.top_group_weights,
    ],
    ids=lambda function: function.__name__,
)
def test_its_formulas_are_the_packages_own(function: Callable[..., object]) -> None:
    sources = ((NEW_FILES / TRAINER).read_text(encoding="utf-8"), inspect.getsource(function))
    definitions = [
        node
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__
    ]
    for definition in definitions:
        assert ast.get_docstring(definition)
        del definition.body[0]
    theirs, ours = map(ast.unparse, definitions)
    assert theirs == ours


def method_args(file: Path) -> dict[str, object]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))["method_args"])


@pytest.mark.parametrize("file", CONFIGURATIONS, ids=lambda file: file.stem)
def test_its_defaults_are_the_packages_own(file: Path) -> None:
    handler = yaml.safe_load(file.read_text(encoding="utf-8"))["handler"]
    ours = config_directory() / "trainer"
    parts = ("baldro/method.yaml", f"baldro/{handler.removeprefix('BalDRO_')}.yaml", file.name)
    package = {key: value for part in parts for key, value in method_args(ours / part).items()}
    assert method_args(file).keys() <= package.keys()
    assert Settings.parse(handler, method_args(file)) == Settings.parse(handler, package)


def test_it_has_a_configuration_for_each_method_of_the_paper() -> None:
    expected = {f"BalDRO_{variant}{base}" for variant in ("DV", "G") for base in ("", "_SimNPO", "_SatImp")}
    assert {file.stem for file in CONFIGURATIONS} == expected
    for file in CONFIGURATIONS:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert content["defaults"] == [content["method_args"]["base"]]
        assert file.stem.removeprefix(content["handler"]) in ("", f"_{content['method_args']['base']}")


def test_it_does_not_mention_the_package() -> None:
    assert not [file for file in NEW_FILES.rglob("*.*") if file.suffix != ".pyc" and b"baldro_ext" in file.read_bytes()]


def test_text_is_inserted_after_the_last_match() -> None:
    assert insert_after("a1\nb\na2\n", r"^a.\n", "new\n") == "a1\nb\na2\nnew\n"
    with pytest.raises(RefusedError, match="new"):
        insert_after("b\n", r"^a.\n", "new\n")


# In a checkout of the framework; its transformers need not be installed.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = checkouts.state(BASE)
    if found != "installed":
        pytest.skip(f"open-unlearning {BASE.name} is not installed")
    return Path(shutil.copytree(checkouts.location(BASE), tmp_path / "checkout", symlinks=True))


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


@pytest.mark.framework
def test_a_clean_checkout_gets_the_pull_request_once(folder: Path) -> None:
    before = tree(folder)
    first = run(app, ["upstream", str(folder)])
    assert first.exit_code == 0, first.output
    after = tree(folder)
    changed = {path for path in after if after[path] != before.get(path)}
    assert before.keys() <= after.keys()
    assert changed & before.keys() == EDITED
    for path in EDITED:  # nothing but whole lines is added, and one cell extended
        old, new = (set(side[path].decode().splitlines()) for side in (before, after))
        assert len(old - new) == (1 if path == "README.md" else 0)
        assert all("baldro" in line.lower() for line in new - old)
    size = PullRequest.for_checkout(folder).diff("--shortstat").strip()
    assert size.startswith(f"{len(changed)} files changed")
    assert size in first.stdout
    assert size in (Path(__file__).parents[1] / "docs" / "upstream.md").read_text(encoding="utf-8")

    second = run(app, ["upstream", str(folder)])
    assert (second.exit_code, tree(folder)) == (0, after)
    assert "already has the pull request" in second.stdout

    # Also when it was committed on a branch.
    git(folder, "switch", "--quiet", "--create", "add-baldro")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Add BalDRO")
    assert "already has the pull request" in run(app, ["upstream", str(folder)]).stdout
    assert git(folder, "status", "--porcelain") == ""


@pytest.mark.framework
def test_the_dry_run_prints_a_diff_that_git_applies(folder: Path) -> None:
    diff = run(app, ["upstream", str(folder), "--dry-run"])
    assert git(folder, "status", "--porcelain") == ""
    (folder.parent / "change.diff").write_text(diff.stdout, encoding="utf-8")
    git(folder, "apply", "../change.diff")
    assert PullRequest.for_checkout(folder).is_applied()


@pytest.mark.framework
def test_the_description_keeps_the_form_and_ticks_its_boxes(folder: Path) -> None:
    form = (folder / ".github" / "PULL_REQUEST_TEMPLATE.md").read_text(encoding="utf-8")
    text = run(app, ["upstream", str(folder), "--description"]).stdout
    headings, boxes = ([line for line in form.splitlines() if line.startswith(start)] for start in ("#", "- [ ]"))
    assert [line for line in text.splitlines() if line in headings] == headings
    # The first box is for corrections of typing errors.
    assert text.splitlines()[-len(boxes) :] == [boxes[0], *(box.replace("[ ]", "[x]") for box in boxes[1:])]
    assert "arxiv.org/abs/2601.09172" in text


def half_done(folder: Path) -> None:
    PullRequest.for_checkout(folder).write()
    git(folder, "checkout", "README.md")


def damaged(folder: Path) -> None:
    PullRequest.for_checkout(folder).write()
    (folder / TRAINER).write_text("mine\n")


def ignored(folder: Path) -> None:
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "exclude").write_text("baldro.py\n")
    (folder / TRAINER).write_text("mine\n")


@pytest.mark.framework
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda folder: (folder / "README.md").write_text("mine\n"), "README.md"),
        (lambda folder: (folder / "Makefile").unlink(), "Makefile"),
        (lambda folder: (folder / "src" / "new.py").write_text("mine\n"), "src/new.py"),
        (half_done, "README.md"),
        (damaged, TRAINER),
        (ignored, TRAINER),
    ],
    ids=["modified", "deleted", "untracked", "half-done", "damaged", "ignored"],
)
def test_a_checkout_with_other_changes_is_refused(folder: Path, change: Callable[[Path], None], named: str) -> None:
    change(folder)
    before = tree(folder)
    result = run(app, ["upstream", str(folder)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert f": {named};" in result.stderr
    assert "stash" in result.stderr
    assert tree(folder) == before


@pytest.mark.framework
def test_a_commit_without_changes_is_no_obstacle(folder: Path) -> None:
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "mine")
    assert run(app, ["upstream", str(folder)]).exit_code == 0


def test_a_checkout_of_another_commit_is_refused(tmp_path: Path) -> None:
    result = run(app, ["upstream", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert "not the root of a git checkout" in result.stderr
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "mine")
    result = run(app, ["upstream", str(tmp_path)])
    assert (result.exit_code, result.stdout) == (4, "")
    assert f"switch --detach {BASE.commit}" in result.stderr
    assert os.listdir(tmp_path) == [".git"]
