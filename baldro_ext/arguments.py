"""The options of the Hugging Face Trainer: those that cannot have their meaning here are refused by name.

docs/training_arguments.md tells of every option whether it is honoured, refused, or without influence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baldro_ext import compat


def _distributed(trainer: Any) -> bool:
    return bool(trainer.accelerator.num_processes > 1)


@dataclass(frozen=True)
class _Refusal:
    """An option, when it is refused, why, and what to set instead; and of which trainers, if not of all."""

    name: str
    is_set: Callable[[Any], bool]
    reason: str
    instead: str
    of: Callable[[Any], bool] = lambda trainer: True


def _any_of(*values: Any) -> Callable[[Any], bool]:
    return lambda given: given in values


_NO_LENGTH = "items are pairs of a forget and a retain sample, which have no one length to sort by"
_NO_TOKENS = "the Trainer finds no tokens to count in pairs of batches"
_ONE_EACH = "the worst case is sought over data-parallel processes, each with samples of its own"
_DATA = "DDP, FSDP or DeepSpeed"

_REFUSED = (
    _Refusal(
        "label_smoothing_factor",
        bool,
        "forget and retain losses take the labels as they are",
        "label_smoothing_factor=0",
    ),
    _Refusal("group_by_length", bool, _NO_LENGTH, "group_by_length=false"),
    _Refusal(
        "train_sampling_strategy",
        _any_of("group_by_length", "batch_rebalance"),
        _NO_LENGTH,
        "train_sampling_strategy=random or sequential",
    ),
    _Refusal(
        "dataloader_in_order",
        _any_of(False),
        "samples would come as loader workers finish, and a resumed run would skip others than were trained on",
        "dataloader_in_order=true",
    ),
    _Refusal(
        "past_index", lambda given: given >= 0, "each forward pass is of whole samples, with no past", "past_index=-1"
    ),
    _Refusal(
        "include_num_input_tokens_seen",
        lambda given: given not in (False, "no"),
        _NO_TOKENS,
        "include_num_input_tokens_seen=false",
    ),
    _Refusal("include_tokens_per_second", bool, _NO_TOKENS, "include_tokens_per_second=false"),
    _Refusal(
        "dispatch_batches",
        _any_of(True),
        "each process has to read its own samples, to know which they are",
        "accelerator_config.dispatch_batches=false",
    ),
    _Refusal(
        "even_batches",
        _any_of(False),
        "processes with fewer samples would let the others wait for ever",
        "accelerator_config.even_batches=true",
        of=_distributed,
    ),
    _Refusal(
        "use_seedable_sampler",
        _any_of(False),
        "a run that resumes in its second epoch or later would see other samples",
        "accelerator_config.use_seedable_sampler=true",
    ),
    _Refusal("parallelism_config", lambda given: given is not None, _ONE_EACH, f"parallelism_config=null, and {_DATA}"),
    _Refusal("tp_size", lambda given: given > 1, _ONE_EACH, f"tp_size=0, and {_DATA}"),
    _Refusal(
        "mp_parameters",
        bool,
        "SageMaker's model parallelism calls the model past the trainer's loss",
        f"mp_parameters='', and {_DATA}",
    ),
    _Refusal(
        "enable_jit_checkpoint",
        bool,
        "its checkpoint may be of the middle of a step, whose samples would count as trained on before it is taken",
        "enable_jit_checkpoint=false, and save_steps",
    ),
    _Refusal(
        "gradient_checkpointing",
        bool,
        "with several processes and reentrant checkpointing, DDP allows one forward pass per step, and forget and "
        "retain batch take two",
        "{'use_reentrant': false} in gradient_checkpointing_kwargs, or in activation_checkpointing_kwargs",
        of=lambda trainer: _distributed(trainer) and compat.is_reentrant(trainer.args),
    ),
    _Refusal(
        "neftune_noise_alpha",
        lambda given: given is not None,
        "this release of transformers adds the noise to the model that model_init made before, and not to this one",
        "neftune_noise_alpha=null, or pass a model instead of model_init, or use transformers 5 or later",
        of=lambda trainer: trainer.model_init is not None and not compat.NOISE_REACHES_A_NEW_MODEL,
    ),
)


def refuse_what_cannot_work(trainer: Any) -> None:
    """Check the options of a training run.

    Args:
        trainer: A `transformers.Trainer` at the end of its construction.

    Raises:
        ValueError: An option cannot have its meaning; says why and what to set instead.
    """
    args = trainer.args
    for refusal in _REFUSED:
        given = getattr(args, refusal.name, getattr(args.accelerator_config, refusal.name, None))
        if given is not None and refusal.is_set(given) and refusal.of(trainer):
            raise ValueError(f"{refusal.name}={given} cannot work here: {refusal.reason}. Set {refusal.instead}")
    for name, kind in (("tp", "tensor"), ("cp", "context"), ("sp", "sequence")):
        size = getattr(trainer, f"get_{name}_size", lambda: 1)()  # of the model, of DeepSpeed or of accelerate
        if size > 1:
            raise ValueError(
                f"{kind} parallelism over {size} processes cannot work here: {_ONE_EACH}. Load the model without it, "
                f"and use {_DATA}"
            )


def refuse_a_model_without_its_run(checkpoint: Path) -> None:
    """Refuse to resume from what `save_only_model` saves: with new moments and other random numbers.

    Raises:
        ValueError: There is nothing but the model.
    """
    if not any(checkpoint.glob("rng_state*.pth")):
        raise ValueError(
            f"{checkpoint} was saved with save_only_model=true, without the optimizer and the random numbers, so a run "
            "cannot go on from it: name a checkpoint of save_only_model=false, or start anew"
        )


def refuse_one_sample(variant: str, samples: int) -> None:
    """Refuse to choose the worst of one sample.

    Raises:
        ValueError: There is one.
    """
    if samples == 1:
        raise ValueError(
            f"per_device_train_batch_size=1 with scope=batch leaves {variant} one sample to choose the worst from, so "
            "it would silently be plain averaging: set scope=dataset to choose from the whole forget set, or "
            "per_device_train_batch_size=2 or more"
        )


def refuse_steps_that_cannot_resume(micro_batches: int, accumulation: int) -> None:
    """Refuse to resume where this release of transformers would go on at another sample.

    Raises:
        ValueError: It would.
    """
    if not compat.RESUMES_ANYWHERE and micro_batches % accumulation:
        raise ValueError(f"{_unresumable(micro_batches, accumulation)} Start anew with such a setting, or {_UPGRADE}")


def warning_of_steps(micro_batches: int, accumulation: int, *, saves: bool) -> str | None:
    """Return what to tell who saves checkpoints that cannot be resumed."""
    if saves and not compat.RESUMES_ANYWHERE and micro_batches % accumulation:
        return f"{_unresumable(micro_batches, accumulation)} To be able to resume, set one, or {_UPGRADE}"
    return None


_UPGRADE = "use transformers 4.57 or later."


def _unresumable(micro_batches: int, accumulation: int) -> str:
    divisors = [str(size) for size in range(1, micro_batches + 1) if micro_batches % size == 0]
    return (
        f"With this release of transformers a run resumes at another sample where gradient_accumulation_steps "
        f"({accumulation}) does not divide the {micro_batches} micro-batches of an epoch; {', '.join(divisors)} do."
    )
