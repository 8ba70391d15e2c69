"""What is installed here, and which known incompatibilities apply.

`inspect_environment` looks and judges nothing; `run_checks` judges what it saw.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from baldro_ext.errors import install_command
from baldro_ext.registry import ExtensionError
from baldro_ext.tools.fairness import unfair_accumulation
from baldro_ext.tools.framework import GENERATIONS, REQUIRES, fits, installed, location, series, state
from baldro_ext.tools.git import head

OURS = ("baldro-ext", "torch", "transformers", "accelerate", "hydra-core")
# Packages that the framework's configurations use on a GPU: where, and what to write instead.
GPU_ONLY = {
    "flash-attn": ("the model configurations use it", "model.model_args.attn_implementation=sdpa"),
    "bitsandbytes": ("trainer.args.optim=paged_adamw_32bit needs it", "trainer.args.optim=adamw_torch"),
}


@dataclass(frozen=True)
class Environment:
    """What was seen."""

    python: str
    versions: Mapping[str, str]  # of the installed packages that matter here, by distribution name
    gpus: tuple[str, ...]
    has_git: bool
    cached: tuple[str, ...]  # generations that are installed in the cache
    checkout: str | None = None  # commit of the checkout in the current folder, "unknown" if git cannot tell
    # Whether src/train.py of that checkout, or else of a cached one, finds this extension; the last line of its output
    # if it does not start; None if there is no checkout to ask.
    plugin: bool | str | None = None
    others: Mapping[str, str] = field(default_factory=dict)  # of other packages, by name: empty, or why it is unusable


class Check(NamedTuple):
    """One line for the reader: `fails` ends a command with an error, `note` is good to know; `fix` says what to do."""

    level: Literal["ok", "note", "fails"]
    subject: str
    found: str
    fix: str = ""


def inspect_environment(folder: Path, notify: Callable[[str], None]) -> Environment:
    """Look at this environment, and at a folder that may be a checkout; leave nothing behind.

    `notify` receives one line before each step that may take long.
    """
    notify("Looking at packages and checkouts")
    versions = {name: version for name in (*OURS, *REQUIRES, *GPU_ONLY) if (version := installed(name))}
    has_git = shutil.which("git") is not None
    cached = [gen for gen in GENERATIONS.values() if has_git and state(gen) == "installed"]
    askable, commit = [location(gen) for gen in cached if fits(gen, versions.get("transformers"))], None
    if (folder / "src" / "train.py").is_file() and (folder / "configs" / "train.yaml").is_file():
        askable, commit = [folder], (head((folder / "src").resolve().parent) if has_git else None) or "unknown"
    notify("Importing torch, to see which GPUs it finds")
    gpus, others = _seen_by_torch()
    if askable:
        notify(f"Starting src/train.py of {askable[0]}, to see whether it finds the extension: 5 to 20 seconds")
    plugin = _plugin(askable[0]) if askable else None
    names = tuple(gen.name for gen in cached)
    return Environment(".".join(map(str, sys.version_info[:3])), versions, gpus, has_git, names, commit, plugin, others)


def run_checks(here: Environment) -> Iterator[Check]:
    """Yield what there is to say, in the order to read it."""
    supported = (3, 11) <= series(here.python) <= (3, 13)
    yield Check("ok" if supported else "fails", "python", here.python, "" if supported else "use Python 3.11 to 3.13")
    yield from (Check("ok", name, here.versions[name]) for name in OURS if name in here.versions)
    yield from (Check("fails", name, "not installed", install_command()) for name in OURS if name not in here.versions)
    if missing := ", ".join(name for name in REQUIRES if name not in here.versions):
        yield Check("fails", "open-unlearning's packages", f"not installed: {missing}", install_command("framework"))
    yield from _checkouts(here)
    yield from _devices(here)
    transformers = here.versions.get("transformers")
    if series(transformers) == (4, 45) and series(here.versions.get("torch")) >= (2, 6):
        problem = "with torch 2.6 and later, the framework's own trainers cannot resume (UnpicklingError); BalDRO's can"
        yield Check("note", "resuming", problem, "set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 for your own checkpoints")
    if transformers and (unfair := unfair_accumulation("NPO", 2, transformers)):
        yield Check("note", "accumulation", f"like all of the framework's own, {unfair}")


def _checkouts(here: Environment) -> Iterator[Check]:
    if not here.has_git:
        yield Check("fails", "git", "not on the PATH", "install it: https://git-scm.com")
    if here.cached:
        yield Check("ok", "cached checkouts", ", ".join(here.cached))
    else:
        yield Check("note", "cached checkouts", "none", "baldro framework install")

    gen = next((gen for gen in GENERATIONS.values() if gen.commit == here.checkout), None)
    if gen and fits(gen, here.versions.get("transformers")):
        yield Check("ok", "checkout here", f"open-unlearning {gen.name} ({gen.commit[:7]})")
    elif gen:
        problem = f"open-unlearning {gen.name} needs transformers {gen.transformers}"
        yield Check("fails", "checkout here", problem, f"pip install transformers=={gen.transformers}")
    elif here.checkout:
        problem = f"open-unlearning at commit {here.checkout[:7]}, which is not tested"
        yield Check("note", "checkout here", problem, "see baldro framework list")
    if here.plugin is None:
        yield Check("note", "Hydra plugin", "not tested, because no checkout fits the installed transformers")
    elif isinstance(here.plugin, str):
        problem = f"src/train.py does not start: {here.plugin}"
        yield Check("fails", "Hydra plugin", problem, "install what is missing above")
    elif here.plugin:
        yield Check("ok", "Hydra plugin", "active: trainer=BalDRO_DV is found")
    else:
        fix = f"{install_command()} in the environment that runs src/train.py"
        yield Check("fails", "Hydra plugin", "not active: trainer=BalDRO_DV is not found", fix)
    if usable := [name for name, problem in here.others.items() if not problem]:
        yield Check("ok", "from other packages", ", ".join(usable))
    yield from (Check("note", "from other packages", problem) for problem in here.others.values() if problem)


def _devices(here: Environment) -> Iterator[Check]:
    if not here.gpus:
        problem = "none, but the framework's configurations need one (flash attention, bf16, paged AdamW)"
        yield Check("note", "GPU", problem, "add +hardware=cpu to src/train.py, +hardware=cpu_eval to src/eval.py")
        return
    yield Check("ok", "GPU", ", ".join(here.gpus))
    for name, (used, instead) in GPU_ONLY.items():
        if name not in here.versions:
            yield Check("fails", name, f"not installed, but {used}", f"pip install {name}, or add {instead}")
    if len(here.gpus) > 1:
        fix = "add trainer.args.ddp_find_unused_parameters=false to commands under accelerate launch without DeepSpeed"
        yield Check("note", "several processes", "torch rejects the framework's ddp_find_unused_parameters: None", fix)


def _seen_by_torch() -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the GPUs, and the forget losses and weightings of other packages with what is wrong there."""
    try:
        torch = importlib.import_module("torch")
        from baldro_ext.losses import FORGET_LOSSES
        from baldro_ext.weightings import VARIANTS
    except (ImportError, OSError):  # src/train.py says why
        return (), {}
    gpus = tuple(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    found = FORGET_LOSSES.others() | VARIANTS.others()
    return gpus, {name: str(it) if isinstance(it, ExtensionError) else "" for name, it in sorted(found.items())}


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
