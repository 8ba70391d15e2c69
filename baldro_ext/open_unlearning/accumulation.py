"""A Hydra callback with which the framework's own trainers average over gradient accumulation steps, as BalDRO's do."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from transformers import Trainer

from baldro_ext import compat
from baldro_ext.mixin import BalDROMixin


class Averaged(Callback):
    """Replaces the trainer of a job by one that averages; `+accumulation=averaged` adds it.

    With transformers 4.46 to 4.52 loss and gradient otherwise grow with the number of steps: docs/bugs/accumulation.md.
    """

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Put the averaging trainer into the framework's registry, before `load_trainer` looks it up."""
        from trainer import TRAINER_REGISTRY

        if handler := TRAINER_REGISTRY.get(config.trainer.handler):
            TRAINER_REGISTRY[config.trainer.handler] = averaged(handler)


def averaged(trainer_class: type[Any]) -> type[Any]:
    """Return a subclass of the same name whose optimizer step is the mean of its micro-batches.

    The last step of an epoch, which may have fewer, is their mean too, except in transformers 4.45. Trainers that do so
    already, such as BalDRO's, are returned as they are: all jobs of a multirun share one registry.
    """
    if issubclass(trainer_class, (BalDROMixin, _Averaging)):
        return trainer_class
    return type(trainer_class.__name__, (_Averaging, trainer_class), {})


class _Averaging(Trainer):
    """Averages over the micro-batches of an optimizer step; for a trainer whose loss is a mean per micro-batch."""

    _scale = 1.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # If it is true, transformers 4.46 to 4.52 leave the division to compute_loss, which does not divide.
        self.model_accepts_loss_kwargs = False

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, *args: Any, **kwargs: Any) -> Any:
        num_batches = compat.micro_batches_to_fetch(num_batches, self.args.gradient_accumulation_steps)
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, *args, **kwargs)
        if batches and not compat.DIVIDES_BY_STEP:  # but by gradient_accumulation_steps
            self._scale = self.args.gradient_accumulation_steps / len(batches)
        return batches, items

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)
        return loss if isinstance(loss, tuple) else loss * self._scale  # training asks for the loss alone
