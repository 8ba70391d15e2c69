"""Makes an optimizer step the mean over its micro-batches, in every release of transformers."""

from dataclasses import dataclass

from baldro_ext import compat


@dataclass
class StepMean:
    """Corrects the losses of a training run for what the Trainer divides them by.

    Later releases of transformers divide by the number of micro-batches in the step, earlier ones always by
    `gradient_accumulation_steps`.

    Args:
        micro_batches: Micro-batches per epoch.
        accumulation: `gradient_accumulation_steps`.

    Attributes:
        fetched: The number of micro-batches in this step, if the Trainer fetches them together.
        trained: The number of micro-batches trained on since training began or resumed.
    """

    micro_batches: int = 1
    accumulation: int = 1
    fetched: int | None = None
    trained: int = 0

    def factor(self) -> float:
        """Return the factor of the next micro-batch's loss; call it once per micro-batch."""
        if compat.DIVIDES_BY_STEP or self.accumulation == 1:
            return 1.0
        size = self.fetched
        if size is None:
            size = compat.micro_batches_of_step(self.trained, self.micro_batches, self.accumulation)
        self.trained += 1
        return self.accumulation / size
