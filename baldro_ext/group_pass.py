"""A worst case that leaves samples out need not train on them: choose first, then pass only the group.

A forward pass without a graph costs about a third of one that is trained on, and keeps nothing for backward. A
ledger of latest losses spares even that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.robust_loss import ForgetTerm, RobustLoss
from baldro_ext.scope import Scope

_WORTHWHILE = 2 / 3
"""Largest share of samples trained on for which a scoring pass before it is cheaper than training on all."""


def forget_term(
    robust_loss: RobustLoss,
    answers_of: Callable[[Tensor | None], AnswerLogProbs],
    reference: Tensor | None,
    scope: Scope,
    indices: Tensor,
    answered: Tensor,
    *,
    may_skip: bool = False,
) -> ForgetTerm:
    """Return the robust loss of a micro-batch of B samples, with as little work as its weighting allows.

    Args:
        robust_loss: The loss.
        answers_of: Runs the model on the rows `(m,)` int64 of the micro-batch, or on all of it for `None`.
        reference: `(B,)` reference log-likelihoods, for objectives that need them.
        scope: Where the worst case is sought.
        indices: `(B,)` int64, the samples' places in the forget set.
        answered: `(B,)` bool, whether a sample has an answer token.
        may_skip: Whether a micro-batch with none of the group may do without a pass. It may not where other
            ranks wait for this one, nor where nothing else has a gradient.
    """
    share = robust_loss.trained_share
    if share == 1 or (scope.kind == "batch" and share > _WORTHWHILE):
        return robust_loss(answers_of(None), reference, scope, indices)
    if scope.kind == "dataset":
        chosen = robust_loss.from_ledger(scope, indices, answered)
    else:
        with torch.no_grad():
            chosen = robust_loss(answers_of(None), reference, scope, indices)
    group = (chosen.sample_weights > 0).nonzero()[:, 0]
    if len(group) == 0:
        if may_skip:
            return chosen
        group = answered.to(group.device).int().argmax()[None]
    group = group.to(indices.device)
    rows = None if reference is None else reference[group.to(reference.device)]
    return robust_loss.of_group(chosen, group, answers_of(group), rows, scope, indices)
