"""Everything that depends on a release of transformers, torch or peft, each with where it comes from."""

from __future__ import annotations

import codecs
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import transformers
from packaging.version import Version
from torch import nn
from transformers import Trainer, TrainingArguments

_TRANSFORMERS = Version(Version(transformers.__version__).base_version)

FETCHES_ONE_BY_ONE = not hasattr(Trainer, "get_batch_samples")
"""Whether the Trainer takes micro-batches as they come, as transformers 4.45 does, and not those of a step together."""

FETCHES_WHOLE_STEPS = Version("4.52") <= _TRANSFORMERS
"""Whether the Trainer fetches all micro-batches of an epoch. Before, it left some out where the accumulation steps do
not divide an epoch: `remainder = num_examples % ...` in transformers 4.46 to 4.51, `_inner_training_loop`."""

DIVIDES_BY_STEP = Version("4.55") <= _TRANSFORMERS
"""Whether the Trainer divides a loss by the number of micro-batches that an optimizer step really has
(`current_gradient_accumulation_steps`), and not by `gradient_accumulation_steps` always."""

RESUMES_ANYWHERE = Version("4.57") <= _TRANSFORMERS
"""Whether a resumed Trainer goes on at the sample where it stopped even if the accumulation steps do not divide an
epoch. Before, it counted other steps per epoch than it trained, or never finished the last step of the resumed
epoch."""

NOISE_REACHES_A_NEW_MODEL = not hasattr(Trainer, "_activate_neftune")
"""Whether `neftune_noise_alpha` reaches a model that `model_init` makes. Before transformers 5, `train` added the noise
to the model before it, and failed at its end."""

TOKENIZER_ARGUMENT = "processing_class" if "processing_class" in inspect.signature(Trainer).parameters else "tokenizer"
"""What the Trainer calls its tokenizer; the name changed in transformers 4.46."""


def let_random_states_in() -> None:
    """Let a Trainer load the random state of numpy that it saved itself.

    torch refuses classes that nobody has named as harmless: any before 2.6 where transformers asks for
    `weights_only=True` (4.51), any from 2.6 on where it does not ask for it (4.45).
    """
    numbers: Any = np.zeros(1, np.uint32)
    harmless = [numbers.__reduce__()[0], np.ndarray, np.dtype, type(numbers.dtype), codecs.encode]
    torch.serialization.add_safe_globals(harmless)


def micro_batches_of_step(trained: int, in_epoch: int, epoch_length: int, accumulation: int) -> int:
    """Return how many micro-batches the optimizer step of a micro-batch has in transformers 4.45.

    It steps after every `accumulation` micro-batches since the start, across the ends of epochs; and at the end of an
    epoch too where that is no longer than one step (`is_last_step_and_steps_less_than_grad_acc`).

    Args:
        trained: Micro-batches trained on before this one.
        in_epoch: Those of them in this epoch.
        epoch_length: Micro-batches per epoch.
        accumulation: `gradient_accumulation_steps`.
    """
    if epoch_length > accumulation:
        return accumulation
    start = max(trained - trained % accumulation, trained - in_epoch)
    end = min(trained - trained % accumulation + accumulation, trained - in_epoch + epoch_length)
    return end - start


def is_reentrant(args: TrainingArguments) -> bool:
    """Whether activations are recomputed by torch's reentrant checkpointing: the default before transformers 5."""
    chosen = getattr(args, "activation_checkpointing", None) or args.gradient_checkpointing
    options = getattr(args, "activation_checkpointing_kwargs", None) or args.gradient_checkpointing_kwargs or {}
    return bool(chosen and options.get("use_reentrant", Version("5") > _TRANSFORMERS))


def let_gradients_in(model: nn.Module) -> None:
    """Let reentrant checkpointing train adapters: it needs an input with a gradient, which frozen embeddings have not.

    https://github.com/huggingface/peft/issues/137, https://github.com/locuslab/open-unlearning/issues/178
    """
    enable: Any = getattr(model, "enable_input_require_grads", None)
    embeddings: Any = getattr(model, "get_input_embeddings", None)
    if enable and embeddings and not any(parameter.requires_grad for parameter in embeddings().parameters()):
        enable()


def has_adapters(model: nn.Module) -> bool:
    """Whether a model is one of PEFT's, whose adapters can be switched off."""
    return hasattr(model, "disable_adapter") and hasattr(model, "get_base_model")


def adapters_do_nothing(model: Any) -> bool:
    """Whether a model of PEFT says the same with and without its adapters, as it does when they are new."""
    tokens = torch.arange(8, device=next(model.parameters()).device)[None] % model.config.vocab_size
    was_training = model.training
    model.eval()
    with torch.no_grad():
        adapted = model(input_ids=tokens).logits
        with adapters_off(model):
            plain = model(input_ids=tokens).logits
    model.train(was_training)
    return bool(torch.equal(adapted, plain))


@contextlib.contextmanager
def adapters_off(model: Any) -> Iterator[None]:
    """Run a model of PEFT without its adapters."""
    with model.disable_adapter():
        yield


@contextlib.contextmanager
def random_state_kept(device: torch.device) -> Iterator[None]:
    """Leave the random numbers of the CPU and of one device as they are, without touching any other device."""
    if device.type == "mps":  # has one generator, and no argument to name it by
        state = torch.mps.get_rng_state()
        try:
            with torch.random.fork_rng(devices=[]):
                yield
        finally:
            torch.mps.set_rng_state(state)
        return
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        yield
