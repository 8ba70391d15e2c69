"""Calls of git that depend neither on the caller's repository nor on settings that alter content."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from baldro_ext.errors import BaldroError


class GitError(BaldroError):
    """git is not installed, or failed where it must not."""


# The user's own settings stay in force (proxies, credentials), except those that change content,
# start other programs, wait for ever, or write in the background while the folder is being renamed.
_SETTINGS = (
    *("-c", "core.autocrlf=false", "-c", "core.eol=lf", "-c", "core.attributesFile=/dev/null"),
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"),
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    *("-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=30"),  # a server that never answers is given up
)
# Set when git itself runs us (in a hook): they would redirect every command to that repository.
_FOREIGN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
# The last two: looking at a checkout neither rewrites its index nor believes `git replace`.
_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_DEFAULT_HASH": "sha1"}
_ENVIRONMENT |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in `folder`, on the repository right there; GitError if git is not installed."""
    if shutil.which("git") is None:
        raise GitError("git is not on the PATH: install it (https://git-scm.com) and try again")
    # Without the folder's own .git named, git would look for a repository further up.
    place = () if arguments[0] == "init" else ("--git-dir=.git",)
    return subprocess.run(
        ["git", *_SETTINGS, *place, *arguments],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key not in _FOREIGN} | _ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # no terminal, so that ssh cannot ask there either
    )


def must(process: subprocess.CompletedProcess[str]) -> None:
    """Raise GitError if the call failed."""
    if process.returncode:
        raise GitError(f"git failed: {complaint(process)}")


def complaint(process: subprocess.CompletedProcess[str]) -> str:
    """Return git's first fatal line (general advice follows it), else its last line."""
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return anonymous((fatal[:1] or lines[-1:] or [f"exit status {process.returncode}"])[0])


def anonymous(text: str) -> str:
    """Return a URL, or a text with URLs, without user names and passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)
