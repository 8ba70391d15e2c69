"""Checkouts of the framework: made by real git, from a small repository, and the commands that keep them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from baldro_ext.errors import BaldroError, RefusedError, UnreachableError, UsageError
from baldro_ext.tools.cli import app
from baldro_ext.tools.framework import (
    GENERATIONS,
    PRIMARY,
    CheckoutMissingError,
    Generation,
    check_packages,
    checkout,
    generation,
    install,
    location,
    made_for,
    state,
)

ROOT = Path(__file__).parents[1]
INSTALL = """
import sys
from baldro_ext.tools.framework import Generation, install
say = lambda message: print(message, file=sys.stderr, flush=True)
print(*install(Generation(*sys.argv[1:6]), sys.argv[6], notify=say))
"""
run = CliRunner().invoke


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    # A hook that runs these tests exports its own repository.
    env = {key: value for key, value in os.environ.items() if key not in ("GIT_DIR", "GIT_INDEX_FILE")}
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.delenv("OPEN_UNLEARNING_REPO", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A repository of two commits; the first is the one to pin, so it is not the tip of a branch."""
    repository = tmp_path / "source"
    repository.mkdir()
    git(repository, "init", "--quiet")
    for text in ("first\n", "second\n"):
        (repository / "train.py").write_text(text)
        git(repository, "add", ".")
        git(repository, "commit", "--quiet", "--message", text)
    return repository


@pytest.fixture
def gen(source: Path) -> Iterator[Generation]:
    """One of two generations of the small repository, which are known here instead of the real ones."""
    commit, real = git(source, "rev-parse", "HEAD~1"), dict(GENERATIONS)
    GENERATIONS.clear()
    GENERATIONS["T1"] = Generation("T1", commit, "4.51.3", "0.4.11", "for tests")
    GENERATIONS["T2"] = Generation("T2", commit, "5.5.4", "0.4.11", "for tests")
    yield GENERATIONS["T1"]
    GENERATIONS.clear()
    GENERATIONS.update(real)


def start_install(gen: Generation, source: str) -> subprocess.Popen[str]:
    arguments = (gen.name, gen.commit, gen.transformers, gen.lm_eval, gen.origin, source)
    command = [sys.executable, "-c", INSTALL, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def folders(gen: Generation) -> list[str]:
    return [path.name for path in location(gen).parent.iterdir() if path.is_dir()]


def test_generations_are_pinned_by_full_commit() -> None:
    assert list(GENERATIONS) == ["G1", "G2", "G3"]
    assert all(len(bytes.fromhex(gen.commit)) == 20 for gen in GENERATIONS.values())
    assert PRIMARY in GENERATIONS


def test_location_is_in_the_cache_and_names_generation_and_commit(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert location(GENERATIONS["G2"]) == cache / "open-unlearning" / "G2-4ad738a"
    monkeypatch.setenv("BALDRO_CACHE", "")
    assert location(GENERATIONS["G2"]).is_absolute()
    assert "baldro_ext" in location(GENERATIONS["G2"]).parts


@pytest.mark.parametrize("name", ["G2", "g2"])
def test_name_is_found_in_any_case(name: str) -> None:
    assert generation(name) is GENERATIONS["G2"]


@pytest.mark.parametrize(("name", "closest"), [("g22", "did you mean G2. There"), ("main", "there")])
def test_unknown_name_lists_the_names_and_the_closest(name: str, closest: str) -> None:
    with pytest.raises(UsageError, match=f"'{name.upper()}' is unknown: {closest} are G1, G2, G3$"):
        generation(name)


def test_generation_for_a_version_of_transformers() -> None:
    assert made_for("4.51.3") is made_for("4.51.0") is GENERATIONS["G2"]
    with pytest.raises(BaldroError, match=r"4\.50\.0.* 4\.45\.1 \(G1\), 4\.51\.3 \(G2\), 5\.5\.4 \(G3\)"):
        made_for("4.50.0")


def test_packages_that_a_checkout_needs_are_named() -> None:
    check_packages()
    with pytest.raises(BaldroError, match=r"needs no-such-package: .*\[framework\]"):
        check_packages(("scipy", "no-such-package"))


@pytest.mark.parametrize("kind", ["clone", "bare", "url", "relative path"])
def test_install_takes_the_pinned_commit_from_any_git_source(
    kind: str, gen: Generation, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(source, "clone", "--quiet", "--bare", str(source), str(tmp_path / "bare.git"))
    monkeypatch.chdir(tmp_path)
    spelled = {"clone": str(source), "bare": str(tmp_path / "bare.git"), "url": source.as_uri()}
    assert install(gen, spelled.get(kind, "source")) == (location(gen), True)
    assert git(location(gen), "rev-parse", "HEAD") == gen.commit
    assert (location(gen) / "train.py").read_text() == "first\n"
    assert checkout(gen) == location(gen)


def test_second_install_touches_nothing_and_needs_no_source(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    before = snapshot(path.parent)
    assert install(gen, "/nowhere") == (path, False)
    assert snapshot(path.parent) == before


def test_settings_of_the_user_do_not_alter_the_content(
    gen: Generation, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho changed > train.py\n")
    hook.chmod(0o755)
    user = tmp_path / "gitconfig"
    # In the old protocol a server hands out the tips of branches only.
    user.write_text(f"[core]\n autocrlf = true\n hooksPath = {hook.parent}\n[protocol]\n version = 0\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user))
    path, _ = install(gen, source.as_uri())
    assert (path / "train.py").read_bytes() == b"first\n"


def test_repository_of_a_running_git_hook_is_left_alone(
    gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(source)
    monkeypatch.setenv("GIT_DIR", str(source / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(source / ".git" / "index"))
    install(gen, str(source))
    assert snapshot(source) == before


@pytest.mark.parametrize("fault", ["unreachable", "another repository"])
def test_bad_source_is_named_with_what_to_do(fault: str, gen: Generation, tmp_path: Path) -> None:
    other = tmp_path / "other"
    if fault == "another repository":
        other.mkdir()
        git(other, "init", "--quiet")
        git(other, "commit", "--quiet", "--allow-empty", "--message", "another project")
    with pytest.raises(UnreachableError) as caught:
        install(gen, str(other))
    for part in (gen.commit, f"from {other}\n", "git says: fatal: ", "OPEN_UNLEARNING_REPO=", "framework install T1"):
        assert part in str(caught.value)
    assert folders(gen) == []


def test_password_in_the_source_is_not_printed(gen: Generation) -> None:
    said: list[str] = []
    with pytest.raises(UnreachableError) as caught:
        install(gen, "http://me:secret@127.0.0.1:1/repo", notify=said.append)
    assert "http://127.0.0.1:1/repo" in str(caught.value)
    assert "secret" not in str(caught.value) + "".join(said)


def test_two_processes_at_once_make_one_checkout(gen: Generation, source: Path) -> None:
    running = [start_install(gen, str(source)) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(new for _, new in printed) == ["False", "True"]
    assert folders(gen) == [location(gen).name]


def test_waiting_for_another_process_is_said(gen: Generation, source: Path) -> None:
    path = location(gen)
    path.parent.mkdir(parents=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        process = start_install(gen, str(source))
        assert process.stderr is not None
        assert "waiting" in process.stderr.readline()
        assert not path.exists()
    assert process.communicate(timeout=60)[0].split() == [str(path), "True"]


def test_killed_install_is_cleaned_up_by_the_next(gen: Generation, source: Path) -> None:
    location(gen).parent.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        process = start_install(gen, f"git://127.0.0.1:{silent.getsockname()[1]}/repo")
        deadline = time.monotonic() + 30
        while not folders(gen) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=30)
        assert len(folders(gen)) == 1
        assert state(gen) == "missing"
    assert install(gen, str(source)) == (location(gen), True)
    assert folders(gen) == [location(gen).name]


def edit(path: Path, gen: Generation) -> str:
    (path / "train.py").write_text("mine\n")
    return "train.py"


def commit(path: Path, gen: Generation) -> str:
    git(path, "commit", "--quiet", "--allow-empty", "--message", "mine")
    return git(path, "rev-parse", "HEAD")


def replace_the_commit_behind_its_hash(path: Path, gen: Generation) -> str:
    edit(path, gen)
    git(path, "add", ".")
    git(path, "replace", gen.commit, commit(path, gen))
    git(path, "update-ref", "--no-deref", "HEAD", gen.commit)
    assert git(path, "status", "--porcelain") == "", "git by itself believes it"
    return "train.py"


def move_the_repository_one_folder_up(path: Path, gen: Generation) -> str:
    shutil.move(path / ".git", path.parent / ".git")
    return "not a git checkout"


@pytest.mark.parametrize(
    "change", [edit, commit, replace_the_commit_behind_its_hash, move_the_repository_one_folder_up]
)
def test_changed_checkout_is_refused_and_kept(
    change: Callable[[Path, Generation], str], gen: Generation, source: Path
) -> None:
    path, _ = install(gen, str(source))
    named = change(path, gen)
    before = snapshot(path)
    assert state(gen).startswith("modified (")
    assert named in state(gen)
    with pytest.raises(RefusedError, match=rf"{named}.*\n.*mv (?s:.*)baldro framework install T1"):
        install(gen, str(source))
    with pytest.raises(RefusedError, match=named):
        checkout(gen)
    assert snapshot(path) == before


def test_untracked_files_are_results_of_runs_not_modifications(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    (path / "saves").mkdir()
    (path / "saves" / "model.bin").write_text("weights")
    assert checkout(gen) == path


def test_missing_git_is_said(gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BaldroError, match="PATH: install it"):
        install(gen, str(source))


def test_cache_that_cannot_be_written_is_said(gen: Generation, source: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(BaldroError, match=rf"{cache}.*\n.*BALDRO_CACHE"):
        install(gen, str(source))


# The commands.


def test_install_prints_one_aligned_line_per_generation(gen: Generation, source: Path) -> None:
    first = run(app, ["framework", "install"], env={"OPEN_UNLEARNING_REPO": str(source)})
    assert first.exit_code == 0
    paths = [str(location(gen)) for gen in GENERATIONS.values()]
    assert [line.split()[0] for line in first.stdout.splitlines()] == ["T1", "T2"]
    assert [line.split()[-1] for line in first.stdout.splitlines()] == paths
    assert len({line.index("installed now") for line in first.stdout.splitlines()}) == 1
    again = run(app, ["framework", "install", "t2"])
    assert (again.exit_code, again.stdout.split()[0]) == (0, "T2")
    assert "already there" in again.stdout


def test_install_of_an_unknown_generation_suggests_the_closest_and_installs_none(gen: Generation, source: Path) -> None:
    result = run(app, ["framework", "install", "T1", "T11"], env={"OPEN_UNLEARNING_REPO": str(source)})
    assert result.exit_code == 2
    assert "'T11' is unknown: did you mean T1? There are T1, T2" in result.stderr
    assert not location(gen).exists()


def test_install_from_a_bad_source_exits_with_3(gen: Generation, tmp_path: Path) -> None:
    result = run(app, ["framework", "install", "T1"], env={"OPEN_UNLEARNING_REPO": str(tmp_path / "gone")})
    assert (result.exit_code, result.stdout) == (3, "")
    assert f"{tmp_path / 'gone'}" in result.stderr


def test_install_refuses_a_modified_checkout_with_4(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    edit(path, gen)
    result = run(app, ["framework", "install"], env={"OPEN_UNLEARNING_REPO": str(source)})
    assert result.exit_code == 4
    assert "train.py" in result.stderr


def test_path_prints_the_path_and_nothing_else(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    result = run(app, ["framework", "path", "t1"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{path}\n", "")


@pytest.mark.parametrize(("status", "code"), [("missing", 2), ("modified", 4)])
def test_path_of_no_usable_checkout_says_what_to_do(status: str, code: int, gen: Generation, source: Path) -> None:
    if status == "modified":
        edit(install(gen, str(source))[0], gen)
    result = run(app, ["framework", "path", "T1"])
    assert (result.exit_code, result.stdout) == (code, "")
    assert "baldro framework install T1\n" in result.stderr


def test_missing_checkout_says_how_to_install_it() -> None:
    with pytest.raises(CheckoutMissingError, match=r"G2(?s:.*)OPEN_UNLEARNING_REPO=.*baldro framework install G2"):
        checkout(GENERATIONS["G2"])


def test_list_is_an_aligned_table_and_says_what_to_install(gen: Generation, source: Path) -> None:
    edit(install(gen, str(source))[0], gen)
    result = run(app, ["framework", "list"])
    head, *rows = result.stdout.splitlines()
    assert [row[head.index("state") : head.index("path")].strip() for row in rows] == ["modified (train.py)", "missing"]
    assert "baldro framework install T2\n" in result.stderr
