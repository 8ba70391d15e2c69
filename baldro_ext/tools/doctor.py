"""What is installed here, and which known incompatibilities apply.

`inspect_environment` looks and judges nothing; `run_checks` judges what it saw.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from baldro_ext.registry import ExtensionError
from baldro_ext.tools.framework import GENERATIONS, REQUIRES, Generation, installed, location, state
from baldro_ext.tools.git import head

OURS = ("baldro-ext", "torch", "transformers", "accelerate", "hydra-core")
# Packages that the framework's configurations use on a GPU: where, and what to write instead.
GPU_ONLY = {
    "flash-attn": ("the model configurations use it", "model.model_args.attn_implementation=sdpa"),
    "bitsandbytes": ("trainer.args.optim=paged_adamw_32bit needs it", "trainer.args.optim=adamw_torch"),
}
_INSTALL = "pip install /path/to/baldro_ext"


@dataclass(frozen=True)
class Environment:
    """What was seen.

    Attributes:
        python: Version.
        versions: Of the installed packages that matter here, by distribution name.
        gpus: Names of the CUDA devices.
        has_git: Whether git is on the PATH.
        cached: Names of the generations that are installed in the cache.
        checkout: Commit of the open-unlearning checkout in the current folder, "unknown" if git cannot tell; None if
            the folder is no checkout.
        plugin: Whether src/train.py of that checkout, or else of a cached one, finds this extension; the last line of
            its output if it does not start; None if there is no checkout to ask.
        others: The forget losses and weightings of other packages, by name: empty, or why it cannot be used.
    """

    python: str
    versions: Mapping[str, str]
    gpus: tuple[str, ...]
    has_git: bool
    cached: tuple[str, ...]
    checkout: str | None = None
    plugin: bool | str | None = None
    others: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One line for the reader: `fails` ends a command with an error, `note` is good to know; `fix` says what to do."""

    level: Literal["ok", "note", "fails"]
    subject: str
    found: str
    fix: str = ""


_ok, _note, _fails = partial(Check, "ok"), partial(Check, "note"), partial(Check, "fails")


def inspect_environment(folder: Path, notify: Callable[[str], None]) -> Environment:
    """Look at this environment, and at a folder that may be a checkout; leave nothing behind.

    Args:
        folder: The folder.
        notify: Receives one line before each step that may take long.
    """
    notify("Looking at packages and checkouts")
    versions = {name: version for name in (*OURS, *REQUIRES, *GPU_ONLY) if (version := installed(name))}
    has_git = shutil.which("git") is not None
    cached = [gen for gen in GENERATIONS.values() if has_git and state(gen).kind == "installed"]
    askable, commit = [location(gen) for gen in cached if _fits(gen, versions)], None
    if (folder / "src" / "train.py").is_file() and (folder / "configs" / "train.yaml").is_file():
        askable, commit = [folder], (head((folder / "src").resolve().parent) if has_git else None) or "unknown"
    if "torch" in versions:
        notify("Importing torch, to see which GPUs it finds")
    gpus = _gpus() if "torch" in versions else ()
    if askable:
        notify(f"Starting src/train.py of {askable[0]}, to see whether it finds the extension: 5 to 20 seconds")
    return Environment(
        python=platform.python_version(),
        versions=versions,
        gpus=gpus,
        has_git=has_git,
        cached=tuple(gen.name for gen in cached),
        checkout=commit,
        plugin=_plugin(askable[0]) if askable else None,
        others=_others() if "torch" in versions else {},
    )


def run_checks(here: Environment) -> Iterator[Check]:
    """Yield what there is to say, in the order to read it."""
    yield from _packages(here)
    yield from _checkouts(here)
    yield from _devices(here)
    yield from _releases(here)


def _packages(here: Environment) -> Iterator[Check]:
    supported = (3, 11) <= _series(here.python) <= (3, 13)
    yield _ok("python", here.python) if supported else _fails("python", here.python, "use Python 3.11, 3.12 or 3.13")
    for name in OURS:
        absent = "run from source, so Hydra does not find it" if name == "baldro-ext" else "not installed"
        yield _ok(name, here.versions[name]) if name in here.versions else _fails(name, absent, _INSTALL)
    if missing := ", ".join(name for name in REQUIRES if name not in here.versions):
        fix = "pip install '/path/to/baldro_ext[framework]'"
        yield _fails("open-unlearning's packages", f"not installed: {missing}", fix)


def _checkouts(here: Environment) -> Iterator[Check]:
    if not here.has_git:
        yield _fails("git", "not on the PATH", "install it: https://git-scm.com")
    if here.cached:
        yield _ok("cached checkouts", ", ".join(here.cached))
    else:
        yield _note("cached checkouts", "none", "baldro framework install")

    gen = next((gen for gen in GENERATIONS.values() if gen.commit == here.checkout), None)
    if gen and _fits(gen, here.versions):
        yield _ok("checkout here", f"open-unlearning {gen.name} ({gen.commit[:7]})")
    elif gen:
        problem = f"open-unlearning {gen.name} needs transformers {gen.transformers}"
        yield _fails("checkout here", problem, f"pip install transformers=={gen.transformers}")
    elif here.checkout:
        problem = f"open-unlearning at commit {here.checkout[:7]}, which is not tested"
        yield _note("checkout here", problem, "see baldro framework list")
    if here.plugin is None:
        yield _note("Hydra plugin", "not tested, because no checkout fits the installed transformers")
    elif isinstance(here.plugin, str):
        yield _fails("Hydra plugin", f"src/train.py does not start: {here.plugin}", "install what is missing above")
    elif here.plugin:
        yield _ok("Hydra plugin", "active: trainer=BalDRO_DV is found")
    else:
        fix = f"{_INSTALL} in the environment that runs src/train.py"
        yield _fails("Hydra plugin", "not active: trainer=BalDRO_DV is not found", fix)
    if usable := [name for name, problem in here.others.items() if not problem]:
        yield _ok("from other packages", ", ".join(usable))
    for problem in filter(None, here.others.values()):
        yield _note("from other packages", problem)


def _devices(here: Environment) -> Iterator[Check]:
    if here.gpus:
        yield _ok("GPU", ", ".join(here.gpus))
        for name, (used, instead) in GPU_ONLY.items():
            if name not in here.versions:
                yield _fails(name, f"not installed, but {used}", f"pip install {name}, or add {instead}")
    else:
        problem = "none, but the framework's configurations need one (flash attention, bf16, paged AdamW)"
        yield _note("GPU", problem, "add +hardware=cpu to src/train.py, +hardware=cpu_eval to src/eval.py")
    if len(here.gpus) > 1:
        fix = "add trainer.args.ddp_find_unused_parameters=false to commands under accelerate launch without DeepSpeed"
        yield _note("several processes", "torch rejects the framework's ddp_find_unused_parameters: None", fix)


def _releases(here: Environment) -> Iterator[Check]:
    transformers, torch = _series(here.versions.get("transformers", "")), _series(here.versions.get("torch", ""))
    if transformers == (4, 45) and torch >= (2, 6):
        problem = "with torch 2.6 and later, the framework's own trainers cannot resume (UnpicklingError); BalDRO's can"
        yield _note("resuming", problem, "set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for your own checkpoints")
    if (4, 46) <= transformers <= (4, 51):
        problem = "the framework's own trainers multiply loss and gradient by the accumulation steps; BalDRO's do not"
        fix = "to compare them, add +accumulation=averaged to the framework's own, as baldro run does"
        yield _note("gradient accumulation", problem, fix)


def _series(version: str) -> tuple[int, ...]:
    """Return major and minor of a version; empty for none."""
    return tuple(int(part) for part in version.split(".")[:2]) if version else ()


def _fits(gen: Generation, versions: Mapping[str, str]) -> bool:
    return _series(gen.transformers) == _series(versions.get("transformers", ""))


def _gpus() -> tuple[str, ...]:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError):  # src/train.py says why
        return ()
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _others() -> dict[str, str]:
    try:
        from baldro_ext.losses import FORGET_LOSSES
        from baldro_ext.weightings import VARIANTS
    except (ImportError, OSError):  # as _gpus
        return {}
    found = FORGET_LOSSES.others() | VARIANTS.others()
    return {name: str(entry) if isinstance(entry, ExtensionError) else "" for name, entry in sorted(found.items())}


def _plugin(checkout: Path) -> bool | str:
    """Ask src/train.py of a checkout where it looks for configurations; return its last line if it does not start."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, str(checkout / "src" / "train.py"), "--info", "searchpath"],
            cwd=elsewhere,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
        )
    if "Provider" in done.stdout:
        return "baldro_ext" in [line.strip("| ").split(" ", 1)[0] for line in done.stdout.splitlines()]
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
