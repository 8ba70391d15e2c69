"""The authors' released training steps, re-expressed from their description in docs/fidelity.md, for their cost.

Every step runs the model with labels over all positions, as the framework's trainers do; NPO's reference is a copy
of the model that is run again in each step; a group is chosen by a forward pass whose graph is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baldro_ext.logprobs import IGNORE_INDEX

Batch = Mapping[str, Tensor]
Loss = Callable[[nn.Module, nn.Module, Batch], Tensor]
"""From model, reference and batch to losses `(B,)`."""


def summed_nll(model: nn.Module, batch: Batch) -> Tensor:
    """Return `(B,)` negative log-likelihoods, from a forward pass over all positions."""
    logits = model(**batch).logits[:, :-1]
    return F.cross_entropy(
        logits.transpose(1, 2), batch["labels"][:, 1:], ignore_index=IGNORE_INDEX, reduction="none"
    ).sum(-1)


def npo(model: nn.Module, reference: nn.Module, batch: Batch) -> Tensor:
    """Return `(B,)` NPO losses at beta = 0.1."""
    nll = summed_nll(model, batch)
    with torch.no_grad():
        before = summed_nll(reference, batch)
    return -2 / 0.1 * F.logsigmoid(0.1 * (nll - before))


def simnpo(model: nn.Module, reference: nn.Module, batch: Batch) -> Tensor:
    """Return `(B,)` SimNPO losses at beta = 4.5 and delta = 0."""
    lengths = (batch["labels"] != IGNORE_INDEX).sum(-1)
    return -2 / 4.5 * F.logsigmoid(4.5 * summed_nll(model, batch) / lengths)


def dual_step(
    loss: Callable[[nn.Module, nn.Module, Batch], Tensor],
    model: nn.Module,
    reference: nn.Module,
    inputs: Mapping[str, Batch],
) -> Tensor:
    """Return the loss of one step of the released DV trainers."""
    forget = -(-loss(model, reference, inputs["forget"])).exp().mean().log()
    return forget + summed_nll(model, inputs["retain"]).mean()


def group_step(
    loss: Callable[[nn.Module, nn.Module, Batch], Tensor],
    model: nn.Module,
    reference: nn.Module,
    inputs: Mapping[str, Batch],
) -> Tensor:
    """Return the loss of one step of the released G trainers."""
    forget, retain = inputs["forget"], inputs["retain"]
    per_token = summed_nll(model, forget) / (forget["labels"] != IGNORE_INDEX).sum(-1)
    group = per_token.argsort()[: max(1, len(per_token) // 2)]
    kept = torch.randperm(len(per_token), device=group.device)[: len(group)]
    chosen = loss(model, reference, {name: values[group] for name, values in forget.items()}).mean()
    retain_loss: Tensor = model(**{name: values[kept] for name, values in retain.items()}).loss
    return chosen + retain_loss
