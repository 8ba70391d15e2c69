"""What a training run logs: statistics at each logging step, and of the forget set after each epoch."""

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from baldro_ext.adversary import Adversary, Weights
from baldro_ext.budget import RetainBudget

UNLABELED = "unlabeled_samples"
_HARDEST = 5


class Journal:
    """Accumulates the statistics of micro-batches between two logging steps."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, Tensor | float] = defaultdict(float)
        self._counts: Counter[str] = Counter()

    def note(
        self, weights: Weights, unlabeled: int, retain_loss: Tensor | float, budget: RetainBudget | None = None
    ) -> None:
        """Add a micro-batch; the retain loss stays on its device until it is read."""
        retain_loss = retain_loss.detach() if isinstance(retain_loss, Tensor) else retain_loss
        numbers: dict[str, Tensor | float] = {"retain_loss": retain_loss}
        if budget:
            numbers |= {"retain_excess": retain_loss - budget.before, "alpha": budget.alpha}
        if unlabeled:
            numbers[UNLABELED] = unlabeled
        if weights.mean is not None:
            numbers |= {"forget_loss_mean": weights.mean, "forget_loss_robust": float(weights.value)}
            numbers |= diagnostics(weights.distribution)
        for name, number in numbers.items():
            self._sums[name] += number
        self._counts.update(numbers.keys())

    def read(self) -> dict[str, float]:
        """Return means over the micro-batches since the last call, and the number of unlabeled samples; reset both."""
        means = {
            name: float(total) / (1 if name == UNLABELED else self._counts[name]) for name, total in self._sums.items()
        }
        self._sums.clear()
        self._counts.clear()
        return means


def diagnostics(weights: Tensor) -> dict[str, float]:
    """Return how far a distribution over n samples is from uniform.

    Args:
        weights: `(n,)` float64, non-negative, sum 1.

    Returns:
        `effective_sample_size` (`1 / sum w^2`, between 1 and n), `kl_to_uniform` (nats, between 0 and
        log n) and `largest_weight`.
    """
    w = weights.detach()
    return {
        "effective_sample_size": 1 / float(w.square().sum()),
        "kl_to_uniform": max(0.0, float(torch.special.xlogy(w, w * len(w)).sum())),
        "largest_weight": float(w.max()),
    }


def summary_of(adversary: Adversary) -> dict[str, float]:
    """Return statistics of the latest losses of the whole forget set, to be logged; empty if there are none."""
    has_loss = adversary.state.has_loss
    losses, hardness = adversary.state.losses[has_loss], adversary.state.hardness[has_loss]
    if len(losses) == 0:
        return {}
    ordered = losses.sort(descending=True).values
    hardest = has_loss.nonzero()[:, 0][hardness.argsort(descending=True, stable=True)[:_HARDEST]]
    return {
        "forget_set_loss_mean": float(losses.mean()),
        "forget_set_loss_worst_decile": float(ordered[: max(1, len(ordered) // 10)].mean()),
        "forget_set_loss_largest": float(ordered[0]),
        "forget_set_effective_sample_size": diagnostics(adversary.distribution())["effective_sample_size"],
        **{f"forget_set_hardest_{place}": float(sample) for place, sample in enumerate(hardest.tolist(), 1)},
    }


def log_histogram(name: str, values: Tensor, step: int, callbacks: Iterable[Any]) -> None:
    """Log a histogram of values to TensorBoard and Weights & Biases, if the run reports to them."""
    for callback in callbacks:
        writer = getattr(callback, "tb_writer", None)
        if writer is not None:
            writer.add_histogram(name, values, step)
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.log({name: wandb.Histogram(values.numpy())}, commit=False)
