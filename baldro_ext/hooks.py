"""A callback that tells a trainer what the Hugging Face Trainer tells callbacks alone."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback


class Hooks(TrainerCallback):
    """Calls the trainer's own methods when training, an epoch or an optimizer step begins or ends."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Score the forget set, or load its state from a checkpoint."""
        self._trainer.training_begins(self._trainer.model_wrapped, kwargs["train_dataloader"])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Enter the next epoch."""
        self._trainer.epoch_begins()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Adapt the weight of the retain loss to its budget."""
        self._trainer.step_ends()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log statistics of the whole forget set."""
        self._trainer.epoch_ends()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Load the state that belongs to the best model, if that was loaded."""
        self._trainer.training_ends()
