"""How much memory a training step needs at most, computed without weights and without a GPU.

The real trainer runs its real loss, forward and backward, on tensors that have a shape but no content (PyTorch's
`FakeTensor`), while the size of everything that is alive is counted. Only the optimizer's state and weights in 4 bits
follow from formulas.
"""

import itertools
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import torch
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, PretrainedConfig

from baldro_ext import compat, logprobs, suggest
from baldro_ext.errors import UsageError, install_command
from baldro_ext.tools.bench.batch import MODELS, Batch, build_model, configuration
from baldro_ext.tools.bench.candidates import make_trainer
from baldro_ext.tools.commands import choices
from baldro_ext.tools.weightless import MasksKnown, Peak, without_values

_MIN_8BIT, _BLOCK_8BIT = 4096, 256  # bitsandbytes 0.44: smaller parameters keep float32; one float32 scale per block
OPTIMIZERS: dict[str, Callable[[nn.Parameter, bool], float]] = {
    "adamw_torch": lambda p, _: 2 * p.nbytes,  # two moments in the parameter's own precision
    "paged_adamw_32bit": lambda p, _: 8 * p.numel(),
    # transformers keeps the state of embeddings in 32 bits.
    "paged_adamw_8bit": lambda p, embeds: (8 if embeds or p.numel() < _MIN_8BIT else 2 + 8 / _BLOCK_8BIT) * p.numel(),
    # One float32 number per row and per column of a matrix.
    "adafactor": lambda p, _: 4 * (p.numel() if p.ndim < 2 else p.numel() // p.shape[-1] + p.numel() // p.shape[-2]),
}
"""Bytes of state for a parameter, and whether it is an embedding; by the values of `trainer.args.optim`."""

_BYTES_4BIT = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # NF4 with a scale per 64 weights, itself in 8 bits (arXiv:2305.14314)

CARDS = {24: 23.5, 40: 39.4, 80: 79.1}
"""GiB that PyTorch finds on GPUs sold with so many GB."""
RESERVE = 1.5
"""GiB to leave for the CUDA context, for kernels' workspaces and for gaps between allocations."""

PARTS = ("parameters", "copies", "gradients", "optimizer", "activations", "logits")


@dataclass(frozen=True)
class Setting:
    """What is trained, and how."""

    model: str  # a key of `MODELS`, or a folder or cached repository with a config.json
    batch: Batch
    optimizer: str = "paged_adamw_32bit"  # a key of `OPTIMIZERS`
    dtype: torch.dtype = torch.bfloat16  # of the weights; but for float32, under bfloat16 autocast as in the framework
    checkpointing: bool = False  # whether activations are recomputed
    lora: int = 0  # rank of LoRA adapters at every linear layer, or 0 to train all weights
    four_bit: bool = False  # whether the frozen weights of linear layers have 4 bits

    def config(self) -> PretrainedConfig:
        """Return the configuration of the model, or raise UsageError."""
        try:
            if self.model in MODELS:
                return configuration(self.model)
            return AutoConfig.from_pretrained(self.model, local_files_only=True)
        except (OSError, ValueError):
            raise UsageError(
                f"{self.model} is no model that this release of transformers knows, and no folder or cached repository "
                f"with a config.json: {suggest.known(self.model, MODELS)}"
            ) from None

    def build(self, device: str) -> Any:
        """Return the model in training mode, with random weights."""
        model = build_model(self.config(), torch.device(device), self.dtype)
        if self.lora:
            with torch.device(device):
                model = self._with_adapters(model)
        if self.checkpointing:
            model.gradient_checkpointing_enable()
        return model.train()

    def _with_adapters(self, model: Any) -> Any:
        try:
            from peft import LoraConfig, get_peft_model
        except ImportError:
            raise UsageError(f"--lora needs the package peft, which is missing: {install_command('peft')}") from None
        if self.four_bit:  # what peft's prepare_model_for_kbit_training does to all other weights
            quantized = {id(p) for p in _four_bit_weights(model)}
            for parameter in model.parameters():
                if id(parameter) not in quantized:
                    parameter.data = parameter.data.float()
        model = get_peft_model(model, LoraConfig(r=self.lora, target_modules="all-linear", task_type="CAUSAL_LM"))
        compat.enable_input_gradients(model)
        return model


def compute(method: str, setting: Setting, checkout: Path) -> dict[str, float]:
    """Return the bytes that a step needs at its peak, by `PARTS`, and their sum as `peak`.

    It is a step within an accumulation: gradients and the optimizer's state exist already.

    Args:
        method: What follows `trainer=`, then settings of `trainer.method_args`: `BalDRO_G scope=dataset`.
        setting: What is trained, and how; a trainer that refuses it is wrong usage.
        checkout: Of the framework.
    """
    suggest.chosen(method.split()[0], choices(checkout, "trainer"), "trainer")
    model = setting.build("meta")
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").tie_weights()
    # The Trainer moves its model to a device, which is not possible without content.
    model.__class__ = type(type(model).__name__, (type(model),), {"to": lambda self, *args, **kwargs: self})
    with warnings.catch_warnings(), patch.object(logprobs, "_CHUNK_ON_CPU", logprobs._CHUNK):  # as large as on a GPU
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # deepcopy asks for it
        return measure(method, model, setting, checkout)


def measure(method: str, model: Any, setting: Setting, checkout: Path) -> dict[str, float]:
    """Return what `compute` does, for a model with or without content."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            trainer = make_trainer(
                method, checkout, model, setting.batch, Path(folder), bf16=setting.dtype != torch.float32
            )
        except (ValueError, OmegaConfBaseException, HydraException) as error:
            raise UsageError(f"{method}: {error}") from None
    if hasattr(trainer, "adversary"):
        without_values(trainer)
    prepared = trainer.accelerator.prepare_model(model)  # as the Trainer does, for its precision
    samples, rows = trainer.train_dataset, setting.batch.rows[0]
    batch = trainer.data_collator([samples[index] for index in rows])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    held: dict[str, list[Any]] = {
        "parameters": _tensors(model),
        "copies": _tensors(getattr(trainer, "ref_model", None)),  # adapters switched off are no copy
        "gradients": [parameter.grad for parameter in trained],
    }
    with MasksKnown(), Peak(model, itertools.chain(*held.values())) as peak:
        try:
            loss = trainer.compute_loss(prepared, batch)
        except ValueError as error:
            raise UsageError(f"{method}: {error}") from None
        except KeyError:
            raise UsageError(f"{method} needs a second answer per sample, which made-up batches lack") from None
        loss.backward()
    saved = sum(p.nbytes - _BYTES_4BIT * p.numel() for p in _four_bit_weights(model)) if setting.four_bit else 0
    parts: dict[str, float] = {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in held.items()}
    parts["parameters"] -= saved
    parts["copies"] -= saved * bool(parts["copies"])
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    parts["optimizer"] = sum(OPTIMIZERS[setting.optimizer](tensor, id(tensor) in embeddings) for tensor in trained)
    parts |= {"activations": peak.most[False], "logits": peak.most[True]}
    return {**{name: parts[name] for name in PARTS}, "peak": sum(parts.values())}


def table(parts: pd.DataFrame) -> str:
    """Return a table in GiB, and the smallest GPU that each method fits on; `parts` has a row in bytes per method."""
    gib = parts / 2**30
    text = gib.map(lambda value: f"{value:.3g}" if value else "-")
    text["fits, GB"] = [smallest_card(peak) for peak in gib["peak"]]
    return str(text.to_markdown(tablefmt="plain", stralign="right", disable_numparse=True))


def smallest_card(peak: float) -> str:
    """Return the GB of the smallest GPU in `CARDS` with room for a peak in GiB."""
    return next((str(card) for card, gib in CARDS.items() if peak + RESERVE <= gib), f"over {max(CARDS)}")


def _tensors(module: Any) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()] if isinstance(module, nn.Module) else []


def _four_bit_weights(model: nn.Module) -> list[Tensor]:
    """Return the frozen weights of the linear layers, without the output layer."""
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.endswith("lm_head") and "lora_" not in name
    ]
