"""The training steps of the authors' released code, written from their description in docs/fidelity.md, for their cost.

They run the model with labels over all positions, as the framework's trainers do; NPO's reference is a copy of the
model that runs in each step; a group is chosen by a forward pass whose graph is kept.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from baldro_ext.losses import npo_losses, simnpo_losses

Samples = Mapping[str, Tensor]

STEPS = {
    "NPO": ("DrNPO (released)", "GroupNPO (released)"),
    "SimNPO": ("DrSimNPO (released)", "GroupSimNPO (released)"),
}
"""Names of `step` by the built-in trainer they are compared with."""


def step(name: str, model: nn.Module, before: nn.Module, batch: Mapping[str, Samples]) -> Tensor:
    """Return the loss of a step, `()`: of a name in `STEPS`, with the model and a copy of it from before unlearning."""
    forget, retain = batch["forget"], batch["retain"]
    if name.startswith("Dr"):
        robust = -(-_losses(name, model, before, forget)).exp().mean().log()
        return robust + _summed_nll(model, retain).mean()
    per_token = _summed_nll(model, forget) / _lengths(forget)
    group = per_token.argsort()[: max(1, len(per_token) // 2)]
    kept = torch.randperm(len(per_token), device=group.device)[: len(group)]
    losses = _losses(name, model, before, {key: values[group] for key, values in forget.items()})
    retain_loss: Tensor = model(**{key: values[kept] for key, values in retain.items()}).loss
    return losses.mean() + retain_loss


def _losses(name: str, model: nn.Module, before: nn.Module, samples: Samples) -> Tensor:
    nll = _summed_nll(model, samples)
    if "SimNPO" in name:
        return simnpo_losses(-nll / _lengths(samples), beta=4.5, delta=0.0)
    with torch.no_grad():
        reference = _summed_nll(before, samples)
    return npo_losses(-nll, -reference, beta=0.1)


def _summed_nll(model: nn.Module, samples: Samples) -> Tensor:
    logits = model(**samples).logits[:, :-1]
    return cross_entropy(logits.transpose(1, 2), samples["labels"][:, 1:], reduction="none").sum(-1)


def _lengths(samples: Samples) -> Tensor:
    return (samples["labels"] >= 0).sum(-1)
