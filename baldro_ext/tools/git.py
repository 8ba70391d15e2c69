"""Calls of git that depend neither on the caller's repository nor on settings that change file contents."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from baldro_ext.errors import BaldroError

# The user's other settings stay in force (proxies, credentials).
_SETTINGS = (
    *("core.autocrlf=false", "core.eol=lf", "core.attributesFile=/dev/null", "core.quotePath=false"),
    *("core.hooksPath=/dev/null", "core.fsmonitor=false"),  # start no other programs
    *("gc.auto=0", "maintenance.auto=false"),  # write nothing in the background
    *("http.lowSpeedLimit=1", "http.lowSpeedTime=30"),  # give up on a server that never answers
    "protocol.version=2",  # so that a server hands out any commit, not branches and tags only
)
_ENVIRONMENT = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_DEFAULT_HASH": "sha1"}
_ENVIRONMENT |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_REPLACE_OBJECTS": "1"}  # read without writing, and the real objects
# Set inside a git hook; they would redirect every call to the repository of that hook.
_REDIRECTIONS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git on the repository whose root is `folder`; raise BaldroError if git is not installed."""
    if shutil.which("git") is None:
        raise BaldroError("git is not on the PATH: install it (https://git-scm.com) and try again")
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    # Without --git-dir, git would also accept a repository in a parent folder.
    repository = [] if arguments[0] == "init" else ["--git-dir=.git"]
    return subprocess.run(
        ["git", *settings, *repository, *arguments],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key not in _REDIRECTIONS} | _ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # without a terminal, ssh cannot ask for a password either
    )


def head(folder: Path) -> str | None:
    """Return the commit that a checkout is at; `None` if git cannot tell."""
    shown = git(folder, "rev-parse", "--verify", "HEAD")
    return None if shown.returncode else shown.stdout.strip()


def output(folder: Path, *arguments: str) -> str:
    """Return what git prints, or raise BaldroError if it fails."""
    process = git(folder, *arguments)
    if process.returncode:
        raise BaldroError(f"git failed: {complaint(process)}")
    return process.stdout


def complaint(process: subprocess.CompletedProcess[str]) -> str:
    """Return git's first error line, or else its last line."""
    lines = [line for line in process.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return anonymous((errors[:1] or lines[-1:] or [f"exit status {process.returncode}"])[0])


def anonymous(text: str) -> str:
    """Return the text with user names and passwords removed from its URLs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
