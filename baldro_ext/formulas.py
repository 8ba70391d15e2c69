"""The method in formulas: the worst case over per-sample losses, and the losses it ranges over.

The one source of what this package computes and of what `baldro upstream` proposes to open-unlearning: the classes
of the package put checks, precision and scope around these functions, and the pull request takes them as they stand.
So the code keeps to 88 columns, like that project, and needs nothing but torch.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor


def donsker_varadhan_weights(losses: Tensor, beta: float) -> Tensor:
    """
    Worst case of BalDRO-DV, a soft maximum: the distribution w that maximises
    sum_i w_i * losses_i - beta * KL(w || uniform).

    That maximum is beta * log(mean(exp(losses / beta))), and w is its gradient.

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      beta: Temperature in units of the loss; inf weighs all samples alike

    Returns:
      Weights of sum 1, shape [n]
    """
    return (losses / beta).softmax(0)


def top_group_weights(losses: Tensor, fraction: float) -> Tensor:
    """
    Worst case of BalDRO-G, the group with the largest losses, weighed evenly.

    A sample at the boundary counts in part where fraction * n is not an integer, and
    samples tied there share what is left (conditional value at risk).

    Args:
      losses: One per sample, larger = less forgotten, shape [n]
      fraction: Share of the samples in the group, in (0, 1]; 1 weighs all alike

    Returns:
      Weights of sum 1, shape [n]
    """
    # Rounded, so that 0.1 * 30 is 3 samples and not 3 and a crumb of a fourth
    size = max(1.0, round(fraction * len(losses), 9))
    boundary = losses.sort(descending=True).values[math.ceil(size) - 1 :][:1]
    above, tied = (losses > boundary).to(losses), (losses == boundary).to(losses)
    return (above + tied * (size - above.sum()) / tied.sum()) / size


def npo_losses(log_probs: Tensor, ref_log_probs: Tensor, beta: float) -> Tensor:
    """NPO per sample, from the log-likelihoods of whole answers, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (log_probs - ref_log_probs))


def simnpo_losses(mean_log_probs: Tensor, beta: float, delta: float) -> Tensor:
    """SimNPO per sample, from the mean log-probability per answer token, shape [n]"""
    return -2 / beta * F.logsigmoid(-beta * (mean_log_probs + delta))


def satimp_token_losses(log_probs: Tensor, beta1: float, beta2: float) -> Tensor:
    """SatImp per token, from log-probabilities of any shape; 0 where they are 0"""
    probs = log_probs.detach().exp()
    return probs**beta1 * (1 - probs) ** beta2 * log_probs
