"""Adapters for every trainer of open-unlearning, as a model handler: `configs/peft/*.yaml`.

Can be imported only with a checkout's `src` folder on `sys.path`, as in its `train.py` and `eval.py`.
"""

import dataclasses
import functools
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from model import MODEL_REGISTRY
from omegaconf import OmegaConf
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import is_bitsandbytes_available, is_peft_available

from baldro_ext import compat, suggest
from baldro_ext.errors import install_command

logger = logging.getLogger(__name__)

_OWN = ("merge", "quantization")  # the other settings are LoraConfig's


class LoRA:
    """Loads a causal language model with new LoRA adapters, the only parameters that are trained."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str, *, peft: Mapping[str, Any], **model_args: Any) -> Any:
        """Return a `peft.PeftModel` that gives the same outputs as the model until it is trained.

        Args:
            pretrained_model_name_or_path: The model, without adapters.
            peft: The keys of `configs/peft/lora.yaml`.
            model_args: Passed on to `AutoModelForCausalLM.from_pretrained`.

        Raises:
            ValueError: The settings cannot work here, or the model has adapters already.
        """
        settings: Any = OmegaConf.to_container(OmegaConf.create(dict(peft)), resolve=True)
        check(settings)
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        merge, quantization = (settings.pop(name, None) for name in _OWN)
        if quantization:
            device = int(os.environ.get("LOCAL_RANK", "0"))  # before the Trainer chooses it for this process
            model_args |= {"quantization_config": BitsAndBytesConfig(**quantization), "device_map": {"": device}}
        model: Any = AutoModelForCausalLM.from_pretrained(pretrained_model_name_or_path, **model_args)
        if getattr(model, "peft_config", None):
            raise ValueError(
                f"{pretrained_model_name_or_path} has adapters already, so the model without the new ones would not be "
                "the model before unlearning: merge them first (docs/adapters.md)"
            )
        if quantization:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
        model = get_peft_model(model, LoraConfig(**{"task_type": "CAUSAL_LM", **settings}))
        compat.enable_input_gradients(model)
        if merge:
            model.save_pretrained = functools.partial(_save_merged, model)
        trained, total = model.get_nb_trainable_parameters()
        logger.info("Adapters train %d of %d parameters (%.2f %%).", trained, total, 100 * trained / total)
        return model


def check(settings: Mapping[str, Any], trainer: str | None = None) -> None:
    """Refuse settings that cannot work in this environment, before a model is loaded.

    Args:
        settings: The keys of `configs/peft/lora.yaml`.
        trainer: The `trainer.handler` that will train the adapters, if known.

    Raises:
        ValueError: The message says what to set or install instead.
    """
    if not is_peft_available():
        raise ValueError(f"adapters need the package peft, which is missing: {install_command('peft')}")
    from peft import LoraConfig

    accepted = {*_OWN, *(field.name for field in dataclasses.fields(LoraConfig))}
    for name in sorted(settings.keys() - accepted):
        raise ValueError(
            f"{name} is no setting of adapters and no argument of peft.LoraConfig: "
            f"{suggest.known(name, settings.keys() & accepted)}"
        )
    if trainer == "RMU":
        raise ValueError("RMU trains parameters of the model itself, which adapters leave as they are: omit +peft")
    if not settings.get("quantization"):
        return
    if not torch.cuda.is_available():
        raise ValueError("quantization (+peft=qlora) needs a CUDA GPU, and there is none here: use +peft=lora")
    if not is_bitsandbytes_available():
        raise ValueError("quantization (+peft=qlora) needs the package bitsandbytes, which is missing: install it")
    if settings.get("merge"):
        raise ValueError(
            "merge=true would round the adapters to the precision of the quantized model: set merge=false, and merge "
            "them into the original model afterwards (docs/adapters.md)"
        )


def register() -> None:
    """Register the handler with the framework as `model.model_handler: LoRA`."""
    MODEL_REGISTRY[LoRA.__name__] = LoRA


def _save_merged(model: Any, save_directory: str, state_dict: Any = None, **options: Any) -> None:
    """Save the whole model with its adapters merged; in checkpoints save adapters, so that a run can be resumed.

    The adapters stay merged in memory: nothing trains after the last save, and an evaluation measures what was saved.
    """
    folder = Path(save_directory)
    is_checkpoint, is_sharded = re.fullmatch(r"checkpoint-\d+", folder.name), state_dict is not None
    if is_checkpoint or is_sharded:
        if not is_checkpoint:
            logger.warning("peft.merge=true cannot merge a model that is sharded over processes: adapters are saved.")
        type(model).save_pretrained(model, save_directory, state_dict=state_dict, **options)
        return
    for adapters in folder.glob("adapter_*"):  # of an earlier run: they would be loaded instead of the merged model
        adapters.unlink()
    model.merge_and_unload().save_pretrained(save_directory, **options)
