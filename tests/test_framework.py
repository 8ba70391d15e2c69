"""Checkouts are made by real git, from small repositories, in real processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from baldro_ext.tools.framework import (
    GENERATIONS,
    PRIMARY,
    FrameworkError,
    FrameworkMissingError,
    FrameworkModifiedError,
    Generation,
    SourceError,
    checkout,
    generation,
    install,
    location,
    state,
)
from baldro_ext.tools.git import GitError

ROOT = Path(__file__).parents[1]
INSTALL = """
import sys
from baldro_ext.tools.framework import Generation, install
say = lambda message: print(message, file=sys.stderr, flush=True)
print(*install(Generation(*sys.argv[1:6]), sys.argv[6], notify=say))
"""


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
def gen(source: Path) -> Generation:
    return Generation("T1", git(source, "rev-parse", "HEAD~1"), "4.51.3", "0.4.11", "for tests")


def start_install(gen: Generation, source: str) -> subprocess.Popen[str]:
    arguments = (gen.name, gen.commit, gen.transformers, gen.lm_eval, gen.summary, source)
    command = [sys.executable, "-c", INSTALL, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def partials(gen: Generation) -> list[Path]:
    return list(location(gen).parent.glob("*.partial-*"))


def test_three_generations_are_pinned_by_full_commit() -> None:
    assert list(GENERATIONS) == ["G1", "G2", "G3"]
    assert all(len(bytes.fromhex(gen.commit)) == 20 for gen in GENERATIONS.values())
    assert PRIMARY in GENERATIONS


def test_location_is_under_the_cache_and_names_generation_and_commit(cache: Path) -> None:
    assert location(GENERATIONS["G2"]) == cache / "open-unlearning" / "G2-4ad738a"


def test_location_defaults_to_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", "")
    assert location(GENERATIONS["G2"]).is_absolute()
    assert "baldro_ext" in location(GENERATIONS["G2"]).parts


@pytest.mark.parametrize("name", ["G2", "g2"])
def test_name_is_found_in_any_case(name: str) -> None:
    assert generation(name) is GENERATIONS["G2"]


@pytest.mark.parametrize(
    ("name", "answer"), [("g22", "there are G1, G2, G3; did you mean G2"), ("main", "there are G1, G2, G3$")]
)
def test_unknown_name_lists_the_names_and_the_closest(name: str, answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        generation(name)


@pytest.mark.parametrize("kind", ["clone", "bare", "url", "relative path", "bundle"])
def test_install_takes_the_pinned_commit_from_any_git_source(
    kind: str, gen: Generation, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(source, "clone", "--quiet", "--bare", str(source), str(tmp_path / "bare.git"))
    git(source, "bundle", "create", str(tmp_path / "all.bundle"), "--all")
    monkeypatch.chdir(tmp_path)
    spelled = {"clone": str(source), "bare": str(tmp_path / "bare.git"), "url": source.as_uri()}
    spelled |= {"relative path": "source", "bundle": str(tmp_path / "all.bundle")}
    path, new = install(gen, spelled[kind])
    assert (path, new) == (location(gen), True)
    assert git(path, "rev-parse", "HEAD") == gen.commit
    assert (path / "train.py").read_text() == "first\n"
    assert checkout(gen) == path


def test_install_takes_the_source_from_the_environment(
    gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPEN_UNLEARNING_REPO", str(source))
    assert install(gen) == (location(gen), True)


def test_second_install_touches_nothing_and_needs_no_source(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    before = snapshot(path.parent)
    assert install(gen, "/nowhere") == (path, False)
    assert snapshot(path.parent) == before


def test_install_falls_back_when_the_server_refuses_single_commits(
    gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In the old protocol a server hands out the tips of branches only.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "0")
    path, _ = install(gen, source.as_uri())
    assert git(path, "rev-parse", "HEAD") == gen.commit


def test_settings_of_the_user_do_not_alter_the_content(
    gen: Generation, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = tmp_path / "hooks" / "post-checkout"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\necho changed > train.py\n")
    hook.chmod(0o755)
    user = tmp_path / "gitconfig"
    user.write_text(f"[core]\n autocrlf = true\n hooksPath = {hook.parent}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(user))
    path, _ = install(gen, str(source))
    assert (path / "train.py").read_bytes() == b"first\n"


def test_repository_of_a_running_git_hook_is_left_alone(
    gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(source)
    monkeypatch.setenv("GIT_DIR", str(source / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(source / ".git" / "index"))
    install(gen, str(source))
    assert snapshot(source) == before


def test_unreachable_source_is_named_with_the_two_ways_out(gen: Generation, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        install(gen, str(tmp_path / "nowhere"))
    message = str(caught.value)
    assert f"from {tmp_path / 'nowhere'}\n" in message
    assert "git says: fatal: " in message
    assert "Check the network" in message
    assert "OPEN_UNLEARNING_REPO=/path/to/open-unlearning baldro framework install T1" in message
    assert not location(gen).exists()
    assert not partials(gen)


def test_wrong_source_is_told_from_an_unreachable_one(gen: Generation, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(other, "commit", "--quiet", "--allow-empty", "--message", "another project")
    with pytest.raises(SourceError, match=f"commit {gen.commit} is not in it"):
        install(gen, str(other))
    assert not partials(gen)


def test_password_in_the_source_is_not_printed(gen: Generation) -> None:
    said: list[str] = []
    with pytest.raises(SourceError) as caught:
        install(gen, "http://me:secret@127.0.0.1:1/repo", notify=said.append)
    assert "http://127.0.0.1:1/repo" in str(caught.value)
    assert "secret" not in str(caught.value) + "".join(said)


def test_two_processes_at_once_make_one_checkout(gen: Generation, source: Path) -> None:
    running = [start_install(gen, str(source)) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert sorted(new for _, new in printed) == ["False", "True"]
    assert [path.name for path in location(gen).parent.iterdir() if path.is_dir()] == [location(gen).name]


def test_waiting_for_another_process_is_said(gen: Generation, source: Path) -> None:
    path = location(gen)
    path.parent.mkdir(parents=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        process = start_install(gen, str(source))
        assert process.stderr is not None
        assert "another process is installing it; waiting" in process.stderr.readline()
        assert not path.exists()
    assert process.communicate(timeout=60)[0].split() == [str(path), "True"]


def test_killed_install_is_cleaned_up_by_the_next(gen: Generation, source: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        process = start_install(gen, f"git://127.0.0.1:{silent.getsockname()[1]}/repo")
        deadline = time.monotonic() + 30
        while not partials(gen) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
        process.communicate(timeout=30)
        assert partials(gen)
        assert not location(gen).exists()
        assert state(gen).kind == "missing"
    assert install(gen, str(source)) == (location(gen), True)
    assert not partials(gen)


def test_modified_checkout_is_refused_and_kept(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    (path / "train.py").write_text("mine\n")
    assert (state(gen).kind, state(gen).details) == ("modified", ("train.py",))
    with pytest.raises(FrameworkModifiedError, match=r"has changes: train\.py\nMove it aside with: mv "):
        install(gen, str(source))
    assert (path / "train.py").read_text() == "mine\n"
    with pytest.raises(FrameworkMissingError, match="reset --hard"):
        checkout(gen)


def test_untracked_files_are_results_of_runs_not_modifications(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    (path / "saves").mkdir()
    (path / "saves" / "model.bin").write_text("weights")
    assert checkout(gen) == path


def test_checkout_moved_to_another_commit_is_detected_and_kept(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    git(path, "commit", "--quiet", "--allow-empty", "--message", "mine")
    mine = git(path, "rev-parse", "HEAD")
    assert (state(gen).kind, state(gen).details) == ("wrong commit", (mine,))
    with pytest.raises(FrameworkModifiedError, match=f"found {mine}, want {gen.commit}"):
        install(gen, str(source))
    with pytest.raises(FrameworkMissingError):
        checkout(gen)
    assert git(path, "rev-parse", "HEAD") == mine


def test_commit_replaced_behind_its_hash_is_detected(gen: Generation, source: Path) -> None:
    path, _ = install(gen, str(source))
    (path / "train.py").write_text("tampered\n")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "--message", "tampered")
    tampered = git(path, "rev-parse", "HEAD")
    git(path, "replace", gen.commit, tampered)
    git(path, "update-ref", "--no-deref", "HEAD", gen.commit)
    assert git(path, "status", "--porcelain") == ""  # git by itself believes it
    assert state(gen).kind == "modified"


def test_folder_inside_another_repository_is_not_taken_for_it(gen: Generation, source: Path) -> None:
    location(gen).mkdir(parents=True)
    git(location(gen).parent, "clone", "--quiet", str(source), "clone")
    shutil.move(location(gen).parent / "clone" / ".git", location(gen).parent / ".git")
    git(location(gen).parent, "checkout", "--quiet", "--force", "--detach", gen.commit)
    assert (state(gen).kind, state(gen).details) == ("wrong commit", ("no git checkout",))


def test_missing_checkout_says_how_to_install_it() -> None:
    with pytest.raises(FrameworkMissingError, match="baldro framework install G2") as caught:
        checkout("g2")
    assert "OPEN_UNLEARNING_REPO=" in str(caught.value)


def test_missing_git_is_said(gen: Generation, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GitError, match="git is not on the PATH: install it"):
        install(gen, str(source))


def test_cache_that_cannot_be_written_is_said(gen: Generation, source: Path, cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(FrameworkError, match=r"cannot use .*\n.*set BALDRO_CACHE"):
        install(gen, str(source))
