"""Refuses options of the Hugging Face Trainer that these trainers cannot honour.

docs/training_arguments.md says of every option whether it is honoured, refused, or without influence.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from baldro_ext import compat

_ONE_STEP = "an optimizer step needs at least one sample"
_NO_LENGTH = "items are pairs of a forget and a retain sample, which have no single length to sort by"
_NO_TOKENS = "the Trainer finds no tokens to count in pairs of batches"
_ONE_EACH = "the worst case is computed over data-parallel processes, each with its own samples"
_DATA = "DDP, FSDP or DeepSpeed"


def _is_set(given: Any, trainer: Any) -> bool:
    return bool(given)


def _is_off(given: Any, trainer: Any) -> bool:
    return not given


def _distributed(trainer: Any) -> bool:
    return bool(trainer.accelerator.num_processes > 1)


_REFUSED: dict[str, tuple[Callable[[Any, Any], bool], str, str]] = {
    "per_device_train_batch_size": (lambda n, _: n < 1, _ONE_STEP, "1 or more"),
    "gradient_accumulation_steps": (lambda n, _: n < 1, _ONE_STEP, "1 or more"),
    "label_smoothing_factor": (_is_set, "forget and retain losses take the labels as they are", "0"),
    "group_by_length": (_is_set, _NO_LENGTH, "false"),
    "train_sampling_strategy": (
        lambda given, _: given in ("group_by_length", "batch_rebalance"),
        _NO_LENGTH,
        "random or sequential",
    ),
    "dataloader_in_order": (
        _is_off,
        "samples would arrive as loader workers finish, and a resumed run would skip the wrong ones",
        "true",
    ),
    "past_index": (lambda n, _: n >= 0, "each forward pass reads whole samples, with no past", "-1"),
    "include_num_input_tokens_seen": (lambda given, _: given not in (False, "no"), _NO_TOKENS, "false"),
    "include_tokens_per_second": (_is_set, _NO_TOKENS, "false"),
    "dispatch_batches": (_is_set, "each process has to read its own samples to know their indices", "false"),
    "even_batches": (
        lambda given, trainer: not given and _distributed(trainer),
        "processes with fewer samples would leave the others waiting forever",
        "true",
    ),
    "use_seedable_sampler": (_is_off, "a run resumed in its second epoch or later would see different samples", "true"),
    "parallelism_config": (_is_set, _ONE_EACH, f"null, and {_DATA}"),
    "tp_size": (lambda n, _: n > 1, _ONE_EACH, f"0, and {_DATA}"),
    "mp_parameters": (_is_set, "SageMaker's model parallelism bypasses the trainer's loss", f"'', and {_DATA}"),
    "enable_jit_checkpoint": (
        _is_set,
        "it may save in the middle of a step, when samples already count as trained on",
        "false, and save_steps",
    ),
    "gradient_checkpointing": (
        lambda given, trainer: given and _distributed(trainer) and compat.is_reentrant(trainer.args),
        "with several processes and reentrant checkpointing, DDP allows one forward pass per step, but the forget "
        "and retain batches take two",
        "false, or {'use_reentrant': false} in gradient_checkpointing_kwargs or activation_checkpointing_kwargs",
    ),
    "neftune_noise_alpha": (
        lambda _, trainer: trainer.model_init is not None and not compat.NOISE_REACHES_A_NEW_MODEL,
        "this release of transformers adds the noise to the previous model of model_init, not to the one it trains",
        "null, or pass a model instead of model_init, or use transformers 5 or later",
    ),
}
"""By option: which values are refused, of which trainers, why, and what to set instead."""


def refuse_what_cannot_work(trainer: Any) -> None:
    """Check the options of a training run, and its kind of model.

    Args:
        trainer: A `transformers.Trainer` at the end of its construction.

    Raises:
        ValueError: An option cannot be honoured; the message names it, the reason and what to set instead.
    """
    _refuse_another_kind_of_model(trainer.model)
    args = trainer.args
    for name, (is_refused, reason, instead) in _REFUSED.items():
        given = getattr(args, name, getattr(args.accelerator_config, name, None))
        if given is not None and is_refused(given, trainer):
            place = "" if hasattr(args, name) else "accelerator_config."
            raise ValueError(f"{name}={given} is not supported: {reason}. Set {place}{name}={instead}")
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
    # Transformers 4.45 lets the first generate, and the second has output embeddings.
    masked = type(model).__name__.endswith(("ForMaskedLM", "ForPreTraining"))
    # One with its own code may do without transformers' generation.
    no_language = generates and not generates() and model.get_output_embeddings() is None
    if generates and (masked or no_language or getattr(model.config, "is_encoder_decoder", False)):
        raise ValueError(
            f"the model is a {type(model).__name__}, which is no causal language model: load it with "
            "AutoModelForCausalLM, and use a model with a decoder only, such as Llama"
        )


def refuse_parameters_without_gradient(trainer: Any, behind: Sequence[str]) -> None:
    """Check that with DDP the loss reaches all trained parameters.

    DDP finds out from the model's outputs, the logits, which parameters have a gradient.

    Args:
        trainer: Its loss reads a module's activations.
        behind: The trained parameters behind that module.

    Raises:
        ValueError: There are some, and no loss reads logits.
    """
    settings = trainer.settings
    reads_logits = settings.loss.needs.any_logits or (settings.alpha > 0 and settings.retain_needs.any_logits)
    sharded = trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled
    if not behind or not _distributed(trainer) or sharded or reads_logits:
        return
    raise ValueError(
        f"{settings.base} with retain_loss_type={settings.retain_loss_type} reads {settings.loss.needs.activations} "
        f"and nothing behind it, where {len(behind)} parameters are trained, such as {behind[0]}: with several "
        "processes, DDP would wait for their gradients. Train none of them (trainable_params_regex, as in "
        "experiment=unlearn/wmdp_rmu; with adapters, peft.layers_to_transform), or set retain_loss_type=NLL with alpha "
        "above 0"
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


def why_it_cannot_resume(micro_batches: int, accumulation: int, within_later: bool) -> str | None:
    """Return why a run could not resume with these releases, and what to do; `None` if it could.

    Args:
        micro_batches: Micro-batches per epoch.
        accumulation: `gradient_accumulation_steps`.
        within_later: Whether it is about steps within the second epoch, or a later one.
    """
    if within_later and not compat.RESUMES_WITHIN_LATER_EPOCHS:
        return (
            "With these releases of transformers and accelerate, a run resumed within its second epoch, or a later "
            "one, would see samples of that epoch twice and others never: resume from the end of an epoch "
            "(save_strategy=epoch), set ignore_data_skip=true to start the epoch over, or use transformers 5 or later, "
            "or accelerate before 1.7 or from 1.15 on"
        )
    if compat.RESUMES_ANYWHERE or micro_batches % accumulation == 0:
        return None
    divisors = [str(size) for size in range(1, micro_batches + 1) if micro_batches % size == 0]
    return (
        f"With this release of transformers a run resumes at the wrong sample if gradient_accumulation_steps "
        f"({accumulation}) does not divide the {micro_batches} micro-batches of an epoch. Start a run with one of "
        f"{', '.join(divisors)} to be able to resume it, or use transformers 4.57 or later."
    )
