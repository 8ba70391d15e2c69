"""Scores the forget set before the first step, while the model is still its own reference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from baldro_ext import compat
from baldro_ext.adversary import Adversary
from baldro_ext.answers import Answers
from baldro_ext.losses import ForgetLoss
from baldro_ext.state import SampleState

AnswersOf = Callable[[Tensor], tuple[Answers, Tensor]]
"""Maps positions in the forget set, `(B,)` int64, to what the model says of them and `(B,)` bool, whether there is an
answer."""


def score_forget_set(
    model: nn.Module,
    answers_of: AnswersOf,
    adversary: Adversary,
    loss: ForgetLoss,
    batch: int,
    *,
    silent: bool = False,
) -> SampleState:
    """Return loss, hardness and reference of each forget sample under the current model, equal on every rank.

    Args:
        model: Runs in evaluation mode; its mode and the random state of its device are restored.
        answers_of: Runs the model.
        adversary: Gathers the results of all ranks; its own state is not changed.
        loss: The forget loss.
        batch: Samples per forward pass; with the batch size of training, it needs no more memory than training.
        silent: Whether to hide the progress bar.

    Raises:
        ValueError: A loss is not finite; the message names the samples.
    """
    size = len(adversary.state.losses)
    state = SampleState.blank(size)
    if loss.needs_reference and loss.reference_is_fixed:
        state.reference = torch.full((size,), torch.nan, dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), compat.random_state_kept(next(model.parameters()).device):
            for start in tqdm(range(0, size, batch * adversary.ranks), desc="Scoring the forget set", disable=silent):
                # Past the end, repeat the last sample: sharded models need every rank in every forward pass.
                index = (torch.arange(batch) + start + adversary.rank * batch).clamp(max=size - 1)
                answers, labeled = answers_of(index)
                reference = loss.log_ratios(answers) if loss.needs_reference else None
                losses = loss(answers, reference)
                hardness = losses if adversary.by_loss else answers.means
                numbers = torch.stack([losses, hardness, losses if reference is None else reference], 1)
                adversary.score(state, index, labeled, numbers)
    finally:
        model.train(was_training)
    return state
