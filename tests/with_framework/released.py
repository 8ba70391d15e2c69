"""The forget terms of the authors' six trainers, github.com/nxZhai/BalDRO @ 12a0b0c, written out again from
docs/fidelity.md: the oracle of every test that compares with the release.

Each takes one vector of answer log-probabilities per sample, and the reference's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Rows = list[Tensor]


def npo(rows: Rows, reference: Rows) -> Tensor:
    ratios = torch.stack([row.sum() - ref.sum() for row, ref in zip(rows, reference, strict=True)])
    return -2 / 0.1 * torch.log(1 / (1 + (0.1 * ratios).exp()))


def simnpo(rows: Rows, reference: Rows) -> Tensor:
    return torch.stack([2 / 4.5 * torch.log(1 + (4.5 * row.mean()).exp()) for row in rows])


def satimp_tokens(rows: Rows, reference: Rows) -> Tensor:
    row = torch.cat(rows)
    p = row.detach().exp()
    return p**5 * (1 - p) * row


def hardest_half(rows: Rows) -> list[int]:
    """The samples with the least negative log-likelihood per token, half of them, rounded down."""
    nll = torch.stack([-row.mean() for row in rows])
    return nll.argsort()[: max(1, int(len(rows) * 0.5))].tolist()


Loss = Callable[[Rows, Rows], Tensor]
LOSSES: dict[str, Loss] = {"NPO": npo, "SimNPO": simnpo, "SatImp": satimp_tokens}


def dr(loss: Loss, rows: Rows, reference: Rows) -> Tensor:
    """DrNPO, DrSimNPO, DrSatImp: minus the log-mean-exp of minus the losses."""
    return -torch.log(torch.mean(torch.exp(-loss(rows, reference))))


def group(loss: Loss, rows: Rows, reference: Rows) -> Tensor:
    """GroupNPO, GroupSimNPO, GroupSatImp: the mean over the hardest half."""
    chosen = hardest_half(rows)
    return loss([rows[i] for i in chosen], [reference[i] for i in chosen]).mean()
