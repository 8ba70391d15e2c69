"""OmegaConf resolvers behind the experiment files: names that tell runs apart, files that may exist."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

# Already part of the name, or without influence on the trained model.
_SILENT = re.compile(
    r"(experiment|trainer|model|hardware|task_name|forget_split|retain_split|holdout_split|data_split|retain_logs_path"
    r"|model\.tokenizer_args\..*|eval\..*|hydra\..*|paths\..*|trainer\.args\.(report_to|logging_.*|eval_.*|do_eval|save_.*))="
)
_LONGEST = 120


def run_name(*parts: str) -> str:
    """Name a run by the given parts, the chosen model and trainer, and the other overrides.

    `python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu trainer.args.seed=1` gives
    `tofu_forget10_Llama-3.2-1B-Instruct_BalDRO_DV_seed=1`, so that runs that differ do not share a
    folder. Where Hydra is not running there are no choices to read, and the parts stand alone.
    """
    if not HydraConfig.initialized():
        return "_".join(parts)
    config = HydraConfig.get()
    choices = config.runtime.choices
    changes = [_short(override) for override in config.overrides.task if not _SILENT.match(override.lstrip("+~"))]
    name = "_".join([*parts, choices["model"], choices["trainer"], *changes])
    if len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def existing(path: str) -> str | None:
    """Return the path if there is such a file, else null: for retain logs that may not be downloaded."""
    return path if Path(path).is_file() else None


def register() -> None:
    """Register the resolvers as `baldro.run_name` and `baldro.existing`."""
    resolvers: dict[str, Any] = {"baldro.run_name": run_name, "baldro.existing": existing}
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)


def _short(override: str) -> str:
    """Keep the last part of the key and make the value safe in a file name."""
    key, _, value = override.lstrip("+").partition("=")
    name = key.rpartition(".")[2].replace("pretrained_model_name_or_path", "from")
    safe = re.sub(r"[^\w.=+-]+", "-", value)
    return f"{name}={safe}"
