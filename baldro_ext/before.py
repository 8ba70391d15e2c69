"""The model that training starts from: how it is measured, what of it is trained, and how it is run again later."""

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from baldro_ext import compat

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Put a model into training or evaluation mode; restore its mode afterwards."""
    was_training = model.training
    model.train(training)
    try:
        yield
    finally:
        model.train(was_training)


@contextlib.contextmanager
def measuring(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Run a model without gradients, in the given mode; restore its mode and the random state of its device."""
    device = next(model.parameters()).device
    with in_mode(model, training=training), torch.no_grad(), compat.random_state_kept(device):
        yield


def adapters_do_nothing(model: Any) -> bool:
    """Whether a PEFT model gives the same logits with and without its adapters, as it does when they are new.

    DoRA may differ by two units in the last place of the largest logit, in the precision of the weights.
    """
    tokens = torch.arange(8, device=next(model.parameters()).device)[None] % model.config.vocab_size
    with in_mode(model, training=False), torch.no_grad():
        adapted = model(input_ids=tokens).logits
        with model.disable_adapter():
            plain = model(input_ids=tokens).logits
    if any(getattr(config, "use_dora", False) for config in model.peft_config.values()):
        # DoRA multiplies weights by a factor that is 1 up to their rounding; logits may be more precise.
        coarsest = max(torch.finfo(it.dtype).eps for it in model.parameters() if it.is_floating_point())
        return torch.allclose(adapted, plain, rtol=0, atol=2 * coarsest * float(plain.abs().max()))
    return bool(torch.equal(adapted, plain))


class AdaptersOff:
    """The model before unlearning, which a PEFT model is while its adapters are switched off.

    Args:
        trainer: Holds the model, wrapped for training or not.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def __call__(self, **inputs: Any) -> Any:
        """Run the model in evaluation mode without its adapters."""
        model = self._trainer.model_wrapped
        with in_mode(model, training=False), self._trainer.accelerator.unwrap_model(model).disable_adapter():
            return model(**inputs)

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the model's modules by name."""
        yield from self._trainer.model_wrapped.named_modules()

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the model's parameters."""
        yield from self._trainer.model_wrapped.parameters()


def train_only(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze all parameters but those with a matching full name; adapters are trained whatever their names.

    Raises:
        ValueError: No parameter matches.
    """
    if compat.has_adapters(model):
        logger.info("The adapters are trained, so trainable_params_regex is ignored.")
        return
    names = [name for name, _ in model.named_parameters()]
    chosen = {name for name in names if any(re.fullmatch(pattern, name) for pattern in patterns)}
    if not chosen:
        raise ValueError(
            f"trainable_params_regex={list(patterns)} matches no parameter: use full names such as {names[0]} or "
            f"{names[len(names) // 2]}, or '.*' for all"
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
