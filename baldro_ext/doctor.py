"""What is installed here, and which known traps of it would spring.

Looking (`look_around`) and judging (`diagnose`) are apart: what is judged is data.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from baldro_ext import framework
from baldro_ext.framework import GENERATIONS, Generation
from baldro_ext.git import git

OURS = ("baldro-ext", "torch", "transformers", "accelerate", "hydra-core")
FRAMEWORKS = ("datasets", "deepspeed", "hydra-colorlog", "lm-eval", "rouge-score", "scikit-learn", "scipy")
"""What a checkout of open-unlearning imports besides."""
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


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: What it is about, in a word or two.
        level: `ok`; `note` for what to know; `fails` for what ends a command with an error.
        what: What was found.
        cure: What to do; empty where nothing needs to be done.
    """

    subject: str
    level: Literal["ok", "note", "fails"]
    what: str
    cure: str = ""


def look_around(folder: Path) -> Surroundings:
    """Look at this environment, and at a folder that may be a checkout; writes nothing that stays.

    Where there is a checkout, its train.py is asked for Hydra's search path, which takes some seconds.
    """
    checkout = (
        folder if (folder / "src" / "train.py").is_file() and (folder / "configs" / "train.yaml").is_file() else None
    )
    has_git = shutil.which("git") is not None
    cached = {gen.name: framework.state(gen).kind if has_git else "unknown" for gen in GENERATIONS.values()}
    versions = {name: found for name in (*OURS, *FRAMEWORKS, *_GPU_ONLY) if (found := _version(name))}
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


def diagnose(seen: Surroundings) -> list[Finding]:
    """Return what there is to say, in the order to read it."""
    return [*_packages(seen), *_checkouts(seen), *_device(seen), *_traps(seen)]


def _packages(seen: Surroundings) -> Iterator[Finding]:
    minor = tuple(int(part) for part in seen.python.split(".")[:2])
    supported = (3, 11) <= minor <= (3, 13)
    yield Finding("python", "ok" if supported else "fails", seen.python, "" if supported else "use 3.11, 3.12 or 3.13")
    for name in OURS:
        if name in seen.versions:
            yield Finding(name, "ok", seen.versions[name])
        elif name == "baldro-ext":
            yield Finding(
                name, "fails", "run from source, so Hydra does not find it", "pip install /path/to/baldro_ext"
            )
        else:
            yield Finding(name, "fails", "not installed", "pip install /path/to/baldro_ext")
    if absent := [name for name in FRAMEWORKS if name not in seen.versions]:
        yield Finding(
            "open-unlearning's packages",
            "fails",
            f"not installed: {', '.join(absent)}",
            "pip install '/path/to/baldro_ext[framework]'",
        )


def _checkouts(seen: Surroundings) -> Iterator[Finding]:
    if not seen.has_git:
        yield Finding("git", "fails", "not on the PATH", "install it: https://git-scm.com")
    if not seen.cache_writable:
        yield Finding("cache", "fails", f"{seen.cache} cannot be written", "set BALDRO_CACHE to a folder you can write")
    ready = [name for name, state in seen.cached.items() if state == "installed"]
    if ready:
        yield Finding("checkouts in the cache", "ok", ", ".join(ready))
    else:
        yield Finding("checkouts in the cache", "note", "none", "baldro framework install")
    transformers = seen.versions.get("transformers", "")
    if seen.checkout is not None:
        here = seen.generation
        if here is None:
            at = f"at {seen.commit[:7]}" if seen.commit else "without git"
            yield Finding(
                "checkout here", "note", f"open-unlearning {at}, which was not tested", "see: baldro framework list"
            )
        elif _series(here.transformers) != _series(transformers):
            yield Finding(
                "checkout here",
                "fails",
                f"open-unlearning {here.name} pins transformers {here.transformers}, installed is {transformers}",
                f"pip install transformers=={here.transformers}",
            )
        else:
            yield Finding("checkout here", "ok", f"open-unlearning {here.name} ({here.commit[:7]})")
    if seen.plugin:
        yield Finding("Hydra plugin", "ok", "active: trainer=BalDRO_DV is found")
    elif seen.plugin is not None:
        cure = "pip install /path/to/baldro_ext in the environment that runs src/train.py"
        yield Finding("Hydra plugin", "fails", "not active: trainer=BalDRO_DV is not found", cure)
    elif seen.plugin_problem:
        yield Finding(
            "Hydra plugin", "fails", f"src/train.py does not start: {seen.plugin_problem}", "see the lines above"
        )
    else:
        yield Finding("Hydra plugin", "note", "not tried, for want of a checkout for this transformers")


def _device(seen: Surroundings) -> Iterator[Finding]:
    if not seen.gpus:
        yield Finding(
            "GPU",
            "note",
            "none, and the framework's configurations ask for one (flash attention, bf16, paged AdamW, warmup_epochs)",
            "add +hardware=cpu to src/train.py, +hardware=cpu_eval to src/eval.py",
        )
        return
    yield Finding("GPU", "ok", ", ".join(seen.gpus))
    if "flash-attn" not in seen.versions:
        yield Finding(
            "flash attention",
            "fails",
            "not installed, and the model configurations ask for it",
            "pip install flash-attn, or add model.model_args.attn_implementation=sdpa",
        )
    if "bitsandbytes" not in seen.versions:
        yield Finding(
            "bitsandbytes",
            "fails",
            "not installed, and trainer.args.optim=paged_adamw_32bit needs it",
            "pip install bitsandbytes, or add trainer.args.optim=adamw_torch",
        )
    if len(seen.gpus) > 1:
        yield Finding(
            "several processes",
            "note",
            "torch refuses the framework's ddp_find_unused_parameters: None",
            "add trainer.args.ddp_find_unused_parameters=false to commands under accelerate launch without DeepSpeed",
        )


def _traps(seen: Surroundings) -> Iterator[Finding]:
    transformers = _series(seen.versions.get("transformers", ""))
    if transformers == (4, 45) and _series(seen.versions.get("torch", "")) >= (2, 6):
        yield Finding(
            "resuming",
            "note",
            "transformers 4.45 reads checkpoints in a way that torch 2.6 and later refuse (UnpicklingError)",
            "for checkpoints of your own: TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1",
        )
    if (4, 46) <= transformers <= (4, 51):
        yield Finding(
            "gradient accumulation",
            "note",
            "in this transformers the framework's own trainers multiply loss and gradient by the accumulation steps; "
            "BalDRO's do not",
            "to compare them: trainer.args.gradient_accumulation_steps=1",
        )


def _series(version: str) -> tuple[int, ...]:
    """Return major and minor of a version; empty for none."""
    return tuple(int(part) for part in version.split(".")[:2]) if version else ()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpus() -> tuple[str, ...]:
    torch = importlib.import_module("torch")
    return tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in its nearest parent that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK)


def _matching(cached: Mapping[str, str], transformers: str) -> Path | None:
    """Return the cached checkout that the installed transformers is for."""
    for gen in GENERATIONS.values():
        if cached[gen.name] == "installed" and _series(gen.transformers) == _series(transformers):
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
    if "baldro_ext" in asked.stdout:
        return True, ""
    if "Provider" in asked.stdout:
        return False, ""
    last = (asked.stderr.strip() or asked.stdout.strip() or f"exit status {asked.returncode}").splitlines()[-1]
    return None, last
