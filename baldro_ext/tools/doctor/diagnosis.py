"""Say which known traps would spring in what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from baldro_ext.tools.doctor.surroundings import OURS, Surroundings, series
from baldro_ext.tools.framework import REQUIRES


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
    if absent := [name for name in REQUIRES if name not in seen.versions]:
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
        elif series(here.transformers) != series(transformers):
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
    transformers = series(seen.versions.get("transformers", ""))
    if transformers == (4, 45) and series(seen.versions.get("torch", "")) >= (2, 6):
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
