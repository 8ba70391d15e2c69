"""Counts the epochs and micro-batches of a training run."""

from __future__ import annotations

from baldro_ext import compat


class Progress:
    """Counts epochs and micro-batches exactly, which the Trainer's rounded `state.epoch` does not.

    Attributes:
        epoch: The current epoch, from 0.
        within_epoch: Whether training resumes in the middle of an epoch; false once that epoch has begun.
    """

    def __init__(self) -> None:
        self.epoch = -1
        self._accumulation = self._micro_batches = 1
        self.within_epoch = False
        self._fetched: int | None = None
        self._trained = self._in_epoch = 0

    def begin(self, step: int, micro_batches: int, accumulation: int) -> None:
        """Start or resume training.

        Args:
            step: Optimizer steps already trained.
            micro_batches: Micro-batches per epoch.
            accumulation: Micro-batches per optimizer step.
        """
        epoch, within = divmod(step, max(1, -(-micro_batches // accumulation)))
        self.epoch = epoch - 1
        self.within_epoch = within > 0
        self._accumulation, self._micro_batches = accumulation, micro_batches
        self._fetched = None
        self._trained = self._in_epoch = 0

    def next_epoch(self) -> bool:
        """Enter the next epoch; return whether it starts from its first sample, rather than in the middle."""
        self.epoch += 1
        self._in_epoch = 0
        begins, self.within_epoch = not self.within_epoch, False
        return begins

    def fetched(self, micro_batches: int) -> None:
        """Record the number of micro-batches in the next optimizer step, if the Trainer fetches them together."""
        self._fetched = micro_batches

    def correction(self) -> float:
        """Return the factor of the loss that makes an optimizer step the mean over its micro-batches.

        Call it once per micro-batch. Later releases of transformers divide by the number of micro-batches in the step,
        earlier ones always by `gradient_accumulation_steps`.
        """
        if compat.DIVIDES_BY_STEP or self._accumulation == 1:
            return 1.0
        size = self._fetched
        if size is None:
            size = compat.micro_batches_of_step(self._trained, self._in_epoch, self._micro_batches, self._accumulation)
        self._trained, self._in_epoch = self._trained + 1, self._in_epoch + 1
        return self._accumulation / size
