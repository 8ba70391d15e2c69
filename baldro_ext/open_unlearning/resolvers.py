"""OmegaConf resolvers for the experiment files: run names, and the retain model's evaluation if it exists."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

# Overrides that are already in the name or do not influence the trained model; they do not change the folder of a run.
_SILENT = re.compile(
    r"(experiment|trainer|model|hardware|sweep|grid\..*|task_name|forget_split|holdout_split|data_split|retain_logs_path"
    r"|model\.tokenizer_args\..*|eval[./].*|hydra\..*|paths\..*"
    r"|trainer\.args\.(resume_from_checkpoint|ignore_data_skip|output_dir|overwrite_output_dir|run_name|project|report_to"
    r"|disable_tqdm|log_.*|logging_.*|eval_.*|do_eval|per_device_eval_batch_size|save_.*|restore_callback_states.*"
    r"|push_to_hub.*|hub_.*|trackio_.*|dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor)"
    r"|skip_memory_metrics|include_.*|metric_for_best_model|greater_is_better|ddp_timeout|torch_empty_cache_steps"
    r"))(=|$)"
)
_FAMILIAR = re.compile(r"^(trainer\.args\.|trainer\.method_args\.|model\.model_args\.|peft=)")
_LONGEST = 120


def run_name(*parts: str, _root_: DictConfig) -> str:
    """Name a run after the given parts, the model, the trainer and the other overrides.

    `python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu trainer.args.seed=1` gives
    `tofu_forget10_Llama-3.2-1B-Instruct_BalDRO_DV_seed-1`, so that different runs do not share a folder. A name needs
    no quotes in a shell or in Hydra's grammar; one that is cut off or has characters replaced ends in a hash of the
    overrides. If Hydra runs no application, there are no choices to name, and the trainer's class and base loss are
    used instead.
    """
    if not HydraConfig.initialized():
        trainer = _root_.get("trainer") or {}
        base = (trainer.get("method_args") or {}).get("base")
        return "_".join([*parts, *filter(None, (trainer.get("handler"), base))])
    config = HydraConfig.get()
    choices = config.runtime.choices
    return chosen_name(*parts, choices["model"], choices["trainer"], overrides=config.overrides.task)


def chosen_name(*parts: str, overrides: Sequence[str]) -> str:
    """Return the run name for the given parts and overrides; see `run_name`."""
    named = [override for override in overrides if not _SILENT.match(override.lstrip("+~"))]
    short = [_FAMILIAR.sub("", re.sub(r"^~", "no-", override.lstrip("+"))) for override in named]
    short = [change.replace("pretrained_model_name_or_path", "from").replace("=", "-", 1) for change in short]
    safe = [re.sub(r"[^\w.-]+", "-", change) for change in short]
    name = "_".join([*parts, *safe])
    if safe != short or len(name) > _LONGEST:
        name = f"{name[:_LONGEST]}-{hashlib.sha256(repr(named).encode()).hexdigest()[:8]}"
    return name


def retain_logs(benchmark: str, retain: str) -> str | None:
    """Return the retain model's evaluation that `setup_data.py --eval_logs` saves, or null if it does not exist.

    `baldro.retain_logs:tofu,retain90` is `saves/eval/tofu_<model>_retain90/TOFU_EVAL.json`.
    """
    if not HydraConfig.initialized():
        return None
    model = HydraConfig.get().runtime.choices["model"]
    path = Path(f"saves/eval/{benchmark}_{model}_{retain}/{benchmark.upper()}_EVAL.json")
    return str(path) if path.is_file() else None


def register() -> None:
    """Register the resolvers as `baldro.run_name` and `baldro.retain_logs`."""
    resolvers: dict[str, Any] = {"baldro.run_name": run_name, "baldro.retain_logs": retain_logs}
    for name, resolver in resolvers.items():
        OmegaConf.register_new_resolver(name, resolver, replace=True)
