"""Where a training run is: its epoch, and the optimizer step that a micro-batch belongs to."""

from __future__ import annotations

from baldro_ext import compat


class Progress:
    """Counts epochs and micro-batches, since the Trainer's own `state.epoch` is a rounded number.

    Attributes:
        epoch: The current epoch, from 0.
        within_epoch: Whether the checkpoint that training goes on from is of the middle of an epoch; until one begins.
    """

    def __init__(self) -> None:
        self.epoch = -1
        self._accumulation = self._micro_batches = 1
        self.within_epoch = False
        self._fetched: int | None = None
        self._trained = self._in_epoch = 0

    def begin(self, step: int, micro_batches: int, accumulation: int) -> None:
        """Start training, or go on from a checkpoint.

        Args:
            step: Optimizer steps trained before.
            micro_batches: Of an epoch.
            accumulation: Micro-batches of an optimizer step.
        """
        epoch, within = divmod(step, max(1, -(-micro_batches // accumulation)))
        self.epoch = epoch - 1
        self.within_epoch = within > 0
        self._accumulation, self._micro_batches = accumulation, micro_batches
        self._fetched = None
        self._trained = self._in_epoch = 0

    def next_epoch(self) -> bool:
        """Enter the next epoch; return whether it begins, and is not one that a checkpoint had begun."""
        self.epoch += 1
        self._in_epoch = 0
        begins, self.within_epoch = not self.within_epoch, False
        return begins

    def fetched(self, micro_batches: int) -> None:
        """Note how many micro-batches the next optimizer step has, where the Trainer fetches them together."""
        self._fetched = micro_batches

    def correction(self) -> float:
        """Return what makes an optimizer step the mean over its micro-batches; called once for each of them.

        Later releases of transformers divide by their number; earlier ones by `gradient_accumulation_steps` always.
        """
        if compat.DIVIDES_BY_STEP or self._accumulation == 1:
            return 1.0
        size = self._fetched
        if size is None:
            size = compat.micro_batches_of_step(self._trained, self._in_epoch, self._micro_batches, self._accumulation)
        self._trained, self._in_epoch = self._trained + 1, self._in_epoch + 1
        return self._accumulation / size
