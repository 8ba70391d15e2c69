"""One forward pass that computes only what the answers need of it.

Most of a causal model's output is logits, a vocabulary wide, for prompt and padding that no loss reads. Models of
transformers compute them only where they are asked to, by an argument whose name depends on the release.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baldro_ext.likelihood import IGNORE_INDEX, AnswerLogProbs, predicted_log_probs


@dataclass(frozen=True)
class AnswerForward:
    """Reads the answers' log-probabilities off a model, in the cheapest way its `forward` offers.

    Args:
        argument: `logits_to_keep` (transformers 4.49 and later), `num_logits_to_keep` (4.45), or `None` for a
            model that always computes all logits.
        takes_positions: Whether the argument may be a tensor of positions besides a number of last ones.
    """

    argument: str | None = None
    takes_positions: bool = False

    @classmethod
    def of(cls, model: nn.Module) -> AnswerForward:
        """Look at the signature of a model without the wrapper of an engine; adapters of PEFT are looked through."""
        unwrap: Any = getattr(model, "get_base_model", None)
        base = unwrap() if unwrap else model
        parameters = inspect.signature(base.forward).parameters
        for argument in ("logits_to_keep", "num_logits_to_keep"):
            if argument in parameters:
                return cls(argument, "Tensor" in str(parameters[argument].annotation))
        return cls()

    def __call__(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[AnswerLogProbs, Any]:
        """Run the model, wrapped or not, on a batch.

        Args:
            model: Called with `input_ids`, `attention_mask` and the argument; never with labels, so that it does
                not compute a cross-entropy that nobody reads.
            batch: `input_ids`, `attention_mask` and `labels`, each `(B, T)`; T may include padding on either side.

        Returns:
            Log-probabilities `(B, K)`, 1 <= K <= max(1, T - 1), and the model's outputs, with as many logits.
        """
        targets = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORE_INDEX)  # the last position: nothing
        needed = (targets != IGNORE_INDEX).any(0).nonzero()[:, 0]
        if len(needed) == 0:  # one position, so that there is a graph
            needed = torch.zeros(1, dtype=torch.int64, device=targets.device)
        first, end = int(needed[0]), int(needed[-1]) + 1
        # A causal model sees nothing of what follows the last answer token.
        inputs: dict[str, Any] = {name: batch[name][:, :end] for name in ("input_ids", "attention_mask")}
        kept: Tensor | slice = slice(0, end)
        if self.argument is not None:
            kept = slice(first, end)
            inputs[self.argument] = end - first
            if self.takes_positions and len(needed) < end - first:
                kept = inputs[self.argument] = needed
        outputs = model(**inputs)
        return predicted_log_probs(outputs.logits, targets[:, kept]), outputs
