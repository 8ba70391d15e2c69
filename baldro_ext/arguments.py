"""Refuses options of the Hugging Face Trainer that these trainers cannot honour.

docs/training_arguments.md says of every option whether it is honoured, refused, or without influence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import not_
from pathlib import Path
from typing import Any

from baldro_ext import compat


def _distributed(trainer: Any) -> bool:
    return bool(trainer.accelerator.num_processes > 1)


@dataclass(frozen=True)
class _Refusal:
    """An option, why it is refused, what to set instead, and the values and trainers it is refused for."""

    name: str
    reason: str
    instead: str
    is_set: Callable[[Any], bool] = bool
    of: Callable[[Any], bool] = lambda trainer: True


_NO_LENGTH = "items are pairs of a forget and a retain sample, which have no single length to sort by"
_NO_TOKENS = "the Trainer finds no tokens to count in pairs of batches"
_ONE_EACH = "the worst case is computed over data-parallel processes, each with its own samples"
_DATA = "DDP, FSDP or DeepSpeed"

_ONE_STEP = "an optimizer step needs at least one sample"

_REFUSED = (
    _Refusal("per_device_train_batch_size", _ONE_STEP, "per_device_train_batch_size=1 or more", lambda n: n < 1),
    _Refusal("gradient_accumulation_steps", _ONE_STEP, "gradient_accumulation_steps=1 or more", lambda n: n < 1),
    _Refusal(
        "label_smoothing_factor", "forget and retain losses take the labels as they are", "label_smoothing_factor=0"
    ),
    _Refusal("group_by_length", _NO_LENGTH, "group_by_length=false"),
    _Refusal(
        "train_sampling_strategy",
        _NO_LENGTH,
        "train_sampling_strategy=random or sequential",
        lambda given: given in ("group_by_length", "batch_rebalance"),
    ),
    _Refusal(
        "dataloader_in_order",
        "samples would arrive as loader workers finish, and a resumed run would skip the wrong ones",
        "dataloader_in_order=true",
        not_,
    ),
    _Refusal(
        "past_index", "each forward pass reads whole samples, with no past", "past_index=-1", lambda given: given >= 0
    ),
    _Refusal(
        "include_num_input_tokens_seen",
        _NO_TOKENS,
        "include_num_input_tokens_seen=false",
        lambda given: given not in (False, "no"),
    ),
    _Refusal("include_tokens_per_second", _NO_TOKENS, "include_tokens_per_second=false"),
    _Refusal(
        "dispatch_batches",
        "each process has to read its own samples to know their indices",
        "accelerator_config.dispatch_batches=false",
    ),
    _Refusal(
        "even_batches",
        "processes with fewer samples would leave the others waiting forever",
        "accelerator_config.even_batches=true",
        not_,
        of=_distributed,
    ),
    _Refusal(
        "use_seedable_sampler",
        "a run resumed in its second epoch or later would see different samples",
        "accelerator_config.use_seedable_sampler=true",
        not_,
    ),
    _Refusal("parallelism_config", _ONE_EACH, f"parallelism_config=null, and {_DATA}", lambda given: True),
    _Refusal("tp_size", _ONE_EACH, f"tp_size=0, and {_DATA}", lambda given: given > 1),
    _Refusal(
        "mp_parameters",
        "SageMaker's model parallelism bypasses the trainer's loss",
        f"mp_parameters='', and {_DATA}",
    ),
    _Refusal(
        "enable_jit_checkpoint",
        "it may save in the middle of a step, when samples already count as trained on",
        "enable_jit_checkpoint=false, and save_steps",
    ),
    _Refusal(
        "gradient_checkpointing",
        "with several processes and reentrant checkpointing, DDP allows one forward pass per step, but the forget "
        "and retain batches take two",
        "{'use_reentrant': false} in gradient_checkpointing_kwargs, or in activation_checkpointing_kwargs",
        of=lambda trainer: _distributed(trainer) and compat.is_reentrant(trainer.args),
    ),
    _Refusal(
        "neftune_noise_alpha",
        "this release of transformers adds the noise to the previous model of model_init, not to the one it trains",
        "neftune_noise_alpha=null, or pass a model instead of model_init, or use transformers 5 or later",
        lambda given: True,
        of=lambda trainer: trainer.model_init is not None and not compat.NOISE_REACHES_A_NEW_MODEL,
    ),
)


def refuse_what_cannot_work(trainer: Any) -> None:
    """Check the options of a training run, and its kind of model.

    Args:
        trainer: A `transformers.Trainer` at the end of its construction.

    Raises:
        ValueError: An option cannot be honoured; the message names it, the reason and what to set instead.
    """
    _refuse_another_kind_of_model(trainer.model)
    args = trainer.args
    for refusal in _REFUSED:
        given = getattr(args, refusal.name, getattr(args.accelerator_config, refusal.name, None))
        if given is not None and refusal.is_set(given) and refusal.of(trainer):
            raise ValueError(f"{refusal.name}={given} is not supported: {refusal.reason}. Set {refusal.instead}")
    for name, kind in (("tp", "tensor"), ("cp", "context"), ("sp", "sequence")):
        size = getattr(trainer, f"get_{name}_size", lambda: 1)()  # set by the model, DeepSpeed or accelerate
        if size > 1:
            raise ValueError(
                f"{kind} parallelism over {size} processes is not supported: {_ONE_EACH}. Load the model without it, "
                f"and use {_DATA}"
            )


def _refuse_another_kind_of_model(model: Any) -> None:
    """Check that a model of transformers predicts each token from those before it.

    Raises:
        ValueError: It is an encoder, an encoder with a decoder, or has no output layer.
    """
    generates = getattr(model, "can_generate", None)
    masked = type(model).__name__.endswith("ForMaskedLM")  # which transformers 4.45 lets generate
    if generates and (masked or not generates() or getattr(model.config, "is_encoder_decoder", False)):
        raise ValueError(
            f"the model is a {type(model).__name__}, which is no causal language model: load it with "
            "AutoModelForCausalLM, and use a model with a decoder only, such as Llama"
        )


def refuse_a_model_without_its_run(checkpoint: Path) -> None:
    """Check that a checkpoint holds more than the model.

    Raises:
        ValueError: It was saved with `save_only_model`.
    """
    if not any(checkpoint.glob("rng_state*.pth")):
        raise ValueError(
            f"{checkpoint} was saved with save_only_model=true, without the optimizer and the random states, so a run "
            "cannot resume from it: use a checkpoint saved with save_only_model=false, or start a new run"
        )


def refuse_one_sample(settings: Any, samples: int) -> None:
    """Check the number of samples, on all ranks, that the worst case within a batch is chosen from.

    Raises:
        ValueError: It is 1.
    """
    choosing = settings.scope == "batch" and not settings.weighting.is_mean
    if samples == 1 and choosing and (settings.unit == "sample" or settings.hardness == "nll"):
        raise ValueError(
            f"per_device_train_batch_size=1 with scope=batch leaves {settings.variant} one sample to choose the worst "
            "from, so it would silently train as the base loss: set scope=dataset to choose from the whole forget set, "
            "or per_device_train_batch_size=2 or more"
        )


def why_it_cannot_resume(micro_batches: int, accumulation: int) -> str | None:
    """Return why a run could not resume with this release of transformers, and what to do; `None` if it could.

    Args:
        micro_batches: Micro-batches per epoch.
        accumulation: `gradient_accumulation_steps`.
    """
    if compat.RESUMES_ANYWHERE or micro_batches % accumulation == 0:
        return None
    divisors = [str(size) for size in range(1, micro_batches + 1) if micro_batches % size == 0]
    return (
        f"With this release of transformers a run resumes at the wrong sample if gradient_accumulation_steps "
        f"({accumulation}) does not divide the {micro_batches} micro-batches of an epoch. Start a run with one of "
        f"{', '.join(divisors)} to be able to resume it, or use transformers 4.57 or later."
    )
