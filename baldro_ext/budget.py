"""A budget for the retain loss: alpha follows from how far the retain loss may rise."""

import logging
import math
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

MEASURED = 512
"""Number of retain samples, at least, whose loss is measured before unlearning."""
_LIMIT = 1000.0
"""Largest factor between the multiplier and the alpha that training starts with. Within it, alpha finds back."""
_NEWEST = 0.2
"""Weight of the newest step in the smoothed retain loss; found on small models, like the next two."""
_LARGEST = 2.0
"""Largest violation that counts, in budgets: beyond three budgets, alpha rises no faster."""
_DAMPING = 3.0
"""Factor of the violation in the exponent of alpha."""
_OPENING = 0.5
"""Share of training in which the budget opens."""


@dataclass
class RetainBudget:
    """Adapts alpha, the weight of the retain loss, so that the loss rises by `budget` and not further.

    After an optimizer step with the retain loss r, with the violation v cut to -1 to 2,

        smoothed <- smoothed + 0.2 * (r - smoothed)      from `before` on
        allowed = budget * min(1, progress / 0.5)          progress: the share of training that is done
        v = (smoothed - before - allowed) / budget
        multiplier <- multiplier * exp(step * v)
        alpha = multiplier * exp(3 v)

    The fourth line is dual ascent on the constraint `r <= before + allowed`, in the logarithm of the multiplier; the
    fifth damps it, as the penalty of an augmented Lagrangian does. docs/settings.md says what each line is for.

    Args:
        budget: How far the retain loss may rise by the end, positive, in the unit of the loss.
        alpha: Weight of the retain loss in the first step, positive.
        step: Step size of dual ascent, positive.

    Attributes:
        alpha: The weight of the retain loss in the next step.
        before: The retain loss before unlearning.
        losses: The retain losses `()` of this optimizer step's micro-batches on this rank, on the model's device.

    References:
        Entesari et al., arXiv:2506.05314 (unlearning as a constrained problem, dual ascent on alpha).
        Stooke et al., arXiv:2007.03964 (why dual ascent oscillates, and what damps it).
    """

    budget: float
    alpha: float = 1.0
    step: float = 0.1

    def __post_init__(self) -> None:
        self.before = self._smoothed = math.nan
        self.losses: list[Tensor] = []
        self._start = self._multiplier = self.alpha

    def begin(self, before: float) -> None:
        """Set the retain loss before unlearning, and start from the first alpha.

        Raises:
            ValueError: The loss is not finite, so nothing can be compared with it.
        """
        if not math.isfinite(before):
            raise ValueError(
                f"retain_budget={self.budget} limits how far the retain loss rises above its value before unlearning, "
                f"but that is {before}: use bf16 or float32 instead of fp16, check the model and the retain set, or "
                "set retain_budget=null"
            )
        self.before = self._smoothed = before
        self.alpha = self._multiplier = self._start
        self.losses.clear()
        logger.info(
            "The retain loss before unlearning is %.4g; alpha lets it rise to %.4g.", before, before + self.budget
        )

    def update(self, retain_loss: float, progress: float = 1.0) -> None:
        """Adapt alpha to the retain loss of an optimizer step, and begin the next.

        Args:
            retain_loss: The mean over its micro-batches on all ranks.
            progress: The share of training that is done, from 0 to 1.
        """
        self.losses.clear()
        if not math.isfinite(retain_loss):
            return  # with fp16, whose gradient scaler skips such a step
        self._smoothed += _NEWEST * (retain_loss - self._smoothed)
        allowed = min(1.0, progress / _OPENING)
        violation = min(max((self._smoothed - self.before) / self.budget - allowed, -1.0), _LARGEST)
        risen = self._multiplier * math.exp(self.step * violation)
        self._multiplier = min(max(risen, self._start / _LIMIT), self._start * _LIMIT)
        self.alpha = self._multiplier * math.exp(_DAMPING * violation)

    @property
    def state(self) -> Tensor:
        """`(4,)` float64: the retain loss before unlearning and smoothed, the multiplier, alpha."""
        return torch.tensor([self.before, self._smoothed, self._multiplier, self.alpha], dtype=torch.float64)

    @state.setter
    def state(self, state: Tensor) -> None:
        self.before, self._smoothed, self._multiplier, self.alpha = state.tolist()
