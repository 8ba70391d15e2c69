"""The options of the Hugging Face Trainer: those that cannot have their meaning here are refused by name.

docs/training_arguments.md tells of every option whether it is honoured, refused, or without influence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from baldro_ext import compat


@dataclass(frozen=True)
class _Refusal:
    """An option, when it is refused, why, and what to set instead."""

    name: str
    is_set: Callable[[Any], bool]
    reason: str
    instead: str


def _when(value: Any) -> Callable[[Any], bool]:
    return lambda given: given == value


_REFUSED = (
    _Refusal(
        "label_smoothing_factor",
        bool,
        "forget and retain losses take the labels as they are",
        "label_smoothing_factor=0",
    ),
    _Refusal(
        "group_by_length",
        bool,
        "items are pairs of a forget and a retain sample, which have no one length to group by",
        "group_by_length=false",
    ),
    _Refusal(
        "train_sampling_strategy",
        _when("group_by_length"),
        "items are pairs of a forget and a retain sample, which have no one length to group by",
        "train_sampling_strategy=random",
    ),
    _Refusal(
        "past_index", lambda given: given >= 0, "each forward pass is of whole samples, with no past", "past_index=-1"
    ),
    _Refusal(
        "include_num_input_tokens_seen",
        lambda given: given not in (False, "no"),
        "the Trainer finds no tokens to count in pairs of batches",
        "include_num_input_tokens_seen=false",
    ),
    _Refusal(
        "include_tokens_per_second",
        bool,
        "the Trainer finds no tokens to count in pairs of batches",
        "include_tokens_per_second=false",
    ),
    _Refusal(
        "dispatch_batches",
        lambda given: given is True,
        "each process has to read its own samples, to know which they are",
        "accelerator_config.dispatch_batches=false",
    ),
    _Refusal(
        "parallelism_config",
        lambda given: given is not None,
        "the worst case is sought over data-parallel processes, one sample on each",
        "parallelism_config=null, and DDP, FSDP or DeepSpeed",
    ),
)


def refuse_what_cannot_work(args: Any, *, distributed: bool) -> None:
    """Check the options of a training run.

    Args:
        args: `transformers.TrainingArguments`.
        distributed: Whether several processes train together.

    Raises:
        ValueError: An option cannot have its meaning; says why and what to set instead.
    """
    for refusal in _REFUSED:
        given = getattr(args, refusal.name, getattr(args.accelerator_config, refusal.name, None))
        if given is not None and refusal.is_set(given):
            raise ValueError(f"{refusal.name}={given} cannot work here: {refusal.reason}. Set {refusal.instead}")
    if distributed and args.accelerator_config.even_batches is False:
        raise ValueError(
            "even_batches=False cannot work here: processes with fewer samples would let the others wait for ever. Set "
            "accelerator_config.even_batches=true"
        )
    if distributed and compat.is_reentrant(args):
        raise ValueError(
            "gradient_checkpointing=true with several processes and reentrant checkpointing cannot work here: DDP "
            "allows it one forward pass per step, and forget and retain batch take two. Set "
            "gradient_checkpointing_kwargs={'use_reentrant': false}"
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
