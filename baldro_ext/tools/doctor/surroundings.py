"""Look at what is installed here, and judge nothing."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from baldro_ext.tools import framework
from baldro_ext.tools.framework import GENERATIONS, Generation
from baldro_ext.tools.git import git

OURS = ("baldro-ext", "torch", "transformers", "accelerate", "hydra-core")
_GPU_ONLY = ("flash-attn", "bitsandbytes")


@dataclass(frozen=True)
class Surroundings:
    """What was seen.

    Attributes:
        python: Version.
        versions: Of the packages that are installed, by distribution name.
        gpus: Names of the CUDA devices.
        has_git: Whether git is on the PATH.
        cache: Where pinned checkouts are kept.
        cache_writable: Whether files can be made there.
        cached: Name of each generation, and the state of its checkout in the cache (`framework.State.kind`).
        checkout: The open-unlearning checkout in whose root this was asked, if it is one.
        commit: What it is at; `None` where git cannot tell.
        plugin: Whether Hydra finds this extension in that checkout, else in a cached one; `None` where there is no
            checkout whose commands start.
        plugin_problem: The last line of a checkout's command that did not start.
    """

    python: str
    versions: Mapping[str, str]
    gpus: tuple[str, ...]
    has_git: bool
    cache: Path
    cache_writable: bool
    cached: Mapping[str, str]
    checkout: Path | None = None
    commit: str | None = None
    plugin: bool | None = None
    plugin_problem: str = ""

    @property
    def generation(self) -> Generation | None:
        """The supported generation that the checkout here is."""
        return next((gen for gen in GENERATIONS.values() if gen.commit == self.commit), None)


def look_around(folder: Path) -> Surroundings:
    """Look at this environment, and at a folder that may be a checkout; writes nothing that stays.

    Where there is a checkout, its train.py is asked for Hydra's search path, which takes some seconds.
    """
    checkout = (
        folder if (folder / "src" / "train.py").is_file() and (folder / "configs" / "train.yaml").is_file() else None
    )
    has_git = shutil.which("git") is not None
    cached = {gen.name: framework.state(gen).kind if has_git else "unknown" for gen in GENERATIONS.values()}
    versions = {
        name: found for name in (*OURS, *framework.REQUIRES, *_GPU_ONLY) if (found := framework.installed(name))
    }
    commit = None
    if checkout is not None and has_git and (checkout / ".git").exists():
        commit = git(checkout, "rev-parse", "HEAD").stdout.strip() or None
    asked = checkout or _matching(cached, versions.get("transformers", ""))
    plugin, problem = (None, "") if asked is None else _plugin(asked)
    cache = framework.location(GENERATIONS[framework.PRIMARY]).parent
    return Surroundings(
        python=platform.python_version(),
        versions=versions,
        gpus=_gpus() if "torch" in versions else (),
        has_git=has_git,
        cache=cache,
        cache_writable=_writable(cache),
        cached=cached,
        checkout=checkout,
        commit=commit,
        plugin=plugin,
        plugin_problem=problem,
    )


def series(version: str) -> tuple[int, ...]:
    """Return major and minor of a version; empty for none."""
    return tuple(int(part) for part in version.split(".")[:2]) if version else ()


def _gpus() -> tuple[str, ...]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError):  # what it lacks is the last line of the command that does not start
        return ()
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _matching(cached: Mapping[str, str], transformers: str) -> Path | None:
    """Return the cached checkout that the installed transformers is for."""
    for gen in GENERATIONS.values():
        if cached[gen.name] == "installed" and series(gen.transformers) == series(transformers):
            return framework.location(gen)
    return None


def _plugin(checkout: Path) -> tuple[bool | None, str]:
    """Ask a checkout's train.py where it looks for configurations; what it said last if it does not start."""
    with tempfile.TemporaryDirectory() as elsewhere:
        asked = subprocess.run(
            [sys.executable, str(checkout / "src" / "train.py"), "--info", "searchpath"],
            cwd=elsewhere,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
        )
    if "Provider" in asked.stdout:
        providers = [line.strip("| ").split(" ", 1)[0] for line in asked.stdout.splitlines()]
        return "baldro_ext" in providers, ""
    last = (asked.stderr.strip() or asked.stdout.strip() or f"exit status {asked.returncode}").splitlines()[-1]
    return None, last
