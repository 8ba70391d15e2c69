"""Differences between releases of transformers, torch and peft, each with its source."""

import codecs
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import accelerate
import numpy as np
import torch
import transformers
from packaging.version import Version
from torch import nn
from transformers import Trainer, TrainingArguments

_TRANSFORMERS = Version(Version(transformers.__version__).base_version)
_ACCELERATE = Version(accelerate.__version__)

FETCHES_ONE_BY_ONE = not hasattr(Trainer, "get_batch_samples")
"""Whether the Trainer fetches micro-batches one by one, as in transformers 4.45, instead of a whole step at a time."""

FETCHES_WHOLE_STEPS = Version("4.52") <= _TRANSFORMERS
"""Whether the Trainer fetches all micro-batches of an epoch. Transformers 4.46 to 4.51 skip some if the accumulation
steps do not divide the epoch (`remainder = num_examples % ...` in `_inner_training_loop`)."""

DIVIDES_BY_STEP = Version("4.55") <= _TRANSFORMERS
"""Whether the Trainer divides a loss by the actual number of micro-batches in an optimizer step
(`current_gradient_accumulation_steps`), instead of always by `gradient_accumulation_steps`."""

RESUMES_ANYWHERE = Version("4.57") <= _TRANSFORMERS
"""Whether a resumed Trainer continues at the right sample even if the accumulation steps do not divide an epoch. Older
releases miscount the steps per epoch, or never finish the last step of the resumed epoch."""

RESUMES_WITHIN_LATER_EPOCHS = Version("5") <= _TRANSFORMERS or not Version("1.7") <= _ACCELERATE < Version("1.15")
"""Whether a run resumed within its second epoch, or a later one, sees the samples that are left of it. In accelerate
1.7 to 1.14, the loader that skips samples (`skip_first_batches`) draws in the order of the first epoch; transformers
before 5 sets the epoch before it makes that loader."""

NOISE_REACHES_A_NEW_MODEL = not hasattr(Trainer, "_activate_neftune")
"""Whether `neftune_noise_alpha` applies to a model made by `model_init`. Before transformers 5, `train` adds the noise
to the previous model, and fails at the end."""

TOKENIZER_ARGUMENT = "processing_class" if "processing_class" in inspect.signature(Trainer).parameters else "tokenizer"
"""Name of the Trainer's tokenizer argument, which changed in transformers 4.46."""


def micro_batches_to_fetch(planned: int, accumulation: int) -> int:
    """Return how many micro-batches the Trainer has to fetch for an optimizer step, of which it planned a number.

    It gets fewer at the end of an epoch, and skips none.
    """
    return planned if FETCHES_WHOLE_STEPS else accumulation


def allow_numpy_random_states() -> None:
    """Allow a Trainer to load the numpy random state that it saved itself.

    With `weights_only=True`, torch refuses classes that are not registered as safe. Transformers 4.51 asks for it with
    torch before 2.6; transformers 4.45 gets it with torch 2.6 and later, where it is the default.
    """
    numbers: Any = np.zeros(1, np.uint32)
    safe = [numbers.__reduce__()[0], np.ndarray, np.dtype, type(numbers.dtype), codecs.encode]
    torch.serialization.add_safe_globals(safe)


def micro_batches_of_step(trained: int, epoch_length: int, accumulation: int) -> int:
    """Return the number of micro-batches in the current optimizer step of transformers 4.45.

    That release steps after every `accumulation` micro-batches since the start of training, across epoch boundaries. It
    also steps at the end of an epoch that is at most one step long (`is_last_step_and_steps_less_than_grad_acc`).

    Args:
        trained: Micro-batches trained on before the current one, since training began or resumed.
        epoch_length: Micro-batches per epoch.
        accumulation: `gradient_accumulation_steps`.
    """
    if epoch_length > accumulation:
        return accumulation
    window, epoch = trained - trained % accumulation, trained - trained % epoch_length
    return min(window + accumulation, epoch + epoch_length) - max(window, epoch)


def is_reentrant(args: TrainingArguments) -> bool:
    """Whether gradient checkpointing is torch's reentrant variant, the default before transformers 5."""
    chosen = getattr(args, "activation_checkpointing", None) or args.gradient_checkpointing
    options = getattr(args, "activation_checkpointing_kwargs", None) or args.gradient_checkpointing_kwargs or {}
    return bool(chosen and options.get("use_reentrant", Version("5") > _TRANSFORMERS))


def enable_input_gradients(model: nn.Module) -> None:
    """Let reentrant checkpointing train adapters: it needs an input with a gradient, but the embeddings are frozen.

    https://github.com/huggingface/peft/issues/137, https://github.com/locuslab/open-unlearning/issues/178
    """
    enable: Any = getattr(model, "enable_input_require_grads", None)
    embeddings: Any = getattr(model, "get_input_embeddings", None)
    if enable and embeddings and not any(parameter.requires_grad for parameter in embeddings().parameters()):
        enable()


def has_adapters(model: nn.Module) -> bool:
    """Whether a model is PEFT's, with adapters that can be switched off."""
    return hasattr(model, "disable_adapter") and hasattr(model, "get_base_model")


@contextlib.contextmanager
def random_state_kept(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Restore the random state of the CPU and of one device afterwards, without touching any other device.

    Args:
        device: The device.
        seed: Seeds both generators first, if given.
    """
    state = torch.mps.get_rng_state() if device.type == "mps" else None  # a single generator, unknown to fork_rng
    devices = [] if state is not None or device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            elif device.type != "cpu":
                torch.manual_seed(seed)
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)
