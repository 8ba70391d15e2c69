"""What is left of the forgotten answers in one model, and the table that compares models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tabulate import tabulate

from baldro_ext.balance import forget_balance


@dataclass(frozen=True)
class Outcome:
    """What was measured of one model.

    Attributes:
        name: `target` before unlearning, the method, or `retain90` for the model that never saw what to forget.
        probabilities: Probability per token of each forgotten answer, between 0 and 1.
        measures: Further columns by their heads; `None` where one does not apply.
    """

    name: str
    probabilities: tuple[float, ...]
    measures: dict[str, float | None] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean probability."""
        return math.fsum(self.probabilities) / len(self.probabilities)

    @property
    def worst_decile(self) -> float:
        """Mean over the tenth of the answers, at least one, that is remembered best."""
        return forget_balance(dict(enumerate(self.probabilities))).worst_mean

    @property
    def largest(self) -> float:
        """Probability of the answer that is remembered best."""
        return max(self.probabilities)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return outcomes with the same measures as an aligned table."""
    head = ("", "probability", "worst decile", "largest", *outcomes[0].measures)
    rows = [
        (
            outcome.name,
            *(f"{number:.3f}" for number in (outcome.mean, outcome.worst_decile, outcome.largest)),
            *(_short(number) for number in outcome.measures.values()),
        )
        for outcome in outcomes
    ]
    return tabulate(
        rows, head, tablefmt="plain", disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))
    )


def _short(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:.3f}" if number >= 0.001 else f"{number:.1e}"
