"""The pass over the forget set before the first step: while the model still is its own reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from baldro_ext import compat
from baldro_ext.adversary import Adversary
from baldro_ext.logprobs import AnswerLogProbs
from baldro_ext.losses import ForgetLoss
from baldro_ext.state import SampleState

AnswersOf = Callable[[Tensor], tuple[AnswerLogProbs, Tensor]]
"""From places in the forget set, `(B,)` int64, to log-probabilities and whether there is an answer, `(B,)` on the
CPU."""


def score_forget_set(
    model: nn.Module,
    answers_of: AnswersOf,
    adversary: Adversary,
    loss: ForgetLoss,
    hardness: Literal["loss", "nll"],
    batch: int,
    *,
    rank: int = 0,
    ranks: int = 1,
    silent: bool = False,
) -> SampleState:
    """Return what is known of each forget sample under the model as it is; the same on every rank.

    Args:
        model: Is in evaluation mode meanwhile; the random numbers of its device stay as they are.
        answers_of: Runs the model.
        adversary: Brings the ranks' numbers together; its own state stays as it is.
        loss: Per sample.
        hardness: What the worst case is chosen by.
        batch: Samples per forward pass; those of a training step ask for no more memory than it does.
        rank: Which data-parallel rank this is.
        ranks: How many there are.
        silent: Whether to show no progress.

    Raises:
        ValueError: A loss is not finite; names the samples.
    """
    size = len(adversary.state.losses)
    state = SampleState.blank(size)
    if loss.needs_reference:
        state.reference = torch.full((size,), torch.nan, dtype=torch.float64)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), compat.random_state_kept(next(model.parameters()).device):
            for start in tqdm(range(0, size, batch * ranks), desc="Scoring the forget set", disable=silent):
                # Past the end, the last sample again: sharded models need every rank in every forward pass.
                index = torch.arange(start + rank * batch, start + rank * batch + batch).clamp(max=size - 1)
                answers, labeled = answers_of(index)
                losses = loss(answers, answers.sums)
                hard = losses if hardness == "loss" else answers.means
                adversary.score(state, index, labeled, losses, hard, answers.sums)
    finally:
        model.train(was_training)
    return state
