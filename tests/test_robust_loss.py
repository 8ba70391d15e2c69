"""Objective x weighting, and the formulas of the released trainers written out independently."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.objectives import NPO, ForgetLoss, SatImp, SimNPO
from baldro_ext.robust_loss import RobustLoss

LENGTHS = [3, 1, 6, 2, 4]
REFERENCE = torch.tensor([-2.0, -0.5, -7.0, -1.0, -3.0], dtype=torch.float64)


def answers(lengths: list[int] = LENGTHS) -> AnswerLogProbs:
    """Answers of these lengths whose log-probabilities are leaves that gradients can be read from."""
    tokens = (
        -torch.rand(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    )
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return AnswerLogProbs((tokens * mask).requires_grad_(), mask)


def value_and_gradient(value: Tensor, given: AnswerLogProbs) -> tuple[float, Tensor]:
    (gradient,) = torch.autograd.grad(value, given.tokens)
    return value.item(), gradient * given.mask


@pytest.mark.parametrize("objective", [NPO(), SimNPO(), SatImp()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("mean", [DonskerVaradhan(beta=math.inf), TopGroup(1.0)], ids=["DV", "G"])
def test_even_weights_are_the_mean_over_samples(objective: ForgetLoss, mean: DonskerVaradhan | TopGroup) -> None:
    given = answers()
    term = RobustLoss(objective, mean)(given, REFERENCE)
    expected = objective(given, REFERENCE).mean()
    ours, theirs = value_and_gradient(term.value, given), value_and_gradient(expected, given)
    assert ours[0] == pytest.approx(theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])
    torch.testing.assert_close(term.sample_weights, torch.full((5,), 0.2).double())


def test_even_weights_over_tokens_are_the_mean_over_tokens() -> None:
    given = answers()
    term = RobustLoss(SatImp(), TopGroup(1.0), unit="token")(given)
    p = given.tokens.detach().exp()
    expected = (p**5 * (1 - p) * given.tokens)[given.mask].mean()
    assert term.value.item() == pytest.approx(expected.item())
    torch.testing.assert_close(term.sample_weights, torch.tensor(LENGTHS).double() / 16)


def released_dv(losses: Tensor, sigma: float = 1.0) -> Tensor:
    """The released dual: exp, mean, log, with minus signs."""
    return -sigma * (-losses / sigma).exp().mean().log()


def released_group(given: AnswerLogProbs) -> Tensor:
    """The released group: the half, rounded down, with the least negative log-likelihood per token."""
    nll = -(given.tokens.sum(-1) / given.mask.sum(-1)).detach()
    return nll.argsort()[: max(1, len(nll) // 2)]


def released_npo(given: AnswerLogProbs) -> Tensor:
    return -20 * torch.log(torch.sigmoid(-0.1 * (given.tokens.sum(-1) - REFERENCE[: len(given.mask)])))


def released_simnpo(given: AnswerLogProbs) -> Tensor:
    return -2 / 4.5 * torch.log(torch.sigmoid(4.5 * (-given.tokens.sum(-1) / given.mask.sum(-1))))


def released_satimp_tokens(given: AnswerLogProbs, rows: Tensor | None = None) -> Tensor:
    rows = torch.arange(len(given.mask)) if rows is None else rows
    log_p = given.tokens[rows][given.mask[rows]]
    p = log_p.detach().exp()
    return p**5 * (1 - p) * log_p


@pytest.mark.parametrize(
    ("robust", "released"),
    [
        (RobustLoss(NPO(), DonskerVaradhan(beta=-1.0)), lambda a: released_dv(released_npo(a))),
        (RobustLoss(SimNPO(), DonskerVaradhan(beta=-1.0)), lambda a: released_dv(released_simnpo(a))),
        (
            RobustLoss(SatImp(), DonskerVaradhan(beta=-1.0), unit="token"),
            lambda a: released_dv(released_satimp_tokens(a)),
        ),
        (
            RobustLoss(NPO(), TopGroup(0.5, "floor"), "nll"),
            lambda a: released_npo(a)[released_group(a)].mean(),
        ),
        (
            RobustLoss(SimNPO(), TopGroup(0.5, "floor"), "nll"),
            lambda a: released_simnpo(a)[released_group(a)].mean(),
        ),
        (
            RobustLoss(SatImp(), TopGroup(0.5, "floor"), "nll", "token"),
            lambda a: released_satimp_tokens(a, released_group(a)).mean(),
        ),
    ],
    ids=["DrNPO", "DrSimNPO", "DrSatImp", "GroupNPO", "GroupSimNPO", "GroupSatImp"],
)
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:4]], ids=["odd", "even"])
def test_released_formulas(
    robust: RobustLoss, released: Callable[[AnswerLogProbs], Tensor], lengths: list[int]
) -> None:
    given = answers(lengths)
    ours = value_and_gradient(robust(given, REFERENCE[: len(lengths)]).value, given)
    theirs = value_and_gradient(released(given), given)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-12)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-14)


def test_hardness_nll_chooses_by_likelihood_and_not_by_loss() -> None:
    given = answers()
    term = RobustLoss(NPO(), TopGroup(0.2), "nll")(given, REFERENCE)
    assert term.sample_weights.argmax() == given.means.argmax()
    term = RobustLoss(NPO(), TopGroup(0.2), "loss")(given, REFERENCE)
    assert term.sample_weights.argmax() == (given.sums - REFERENCE).argmax()


@pytest.mark.parametrize("unit", ["sample", "token"])
def test_samples_without_answer_weigh_nothing(unit: Literal["sample", "token"]) -> None:
    robust = RobustLoss(SatImp(), DonskerVaradhan(beta=0.01), unit=unit)
    whole, with_gaps = answers([3, 2]), answers([0, 3, 0, 2])
    gap_tokens = torch.zeros(4, 3, dtype=torch.float64)
    gap_tokens[[1, 3]] = whole.tokens.detach()
    with_gaps = AnswerLogProbs(gap_tokens.requires_grad_(), with_gaps.mask)
    term = robust(with_gaps)
    assert term.answerless == 2
    assert term.sample_weights[[0, 2]].tolist() == [0, 0]
    assert term.value.item() == pytest.approx(robust(whole).value.item())
    assert term.sample_weights.sum().item() == pytest.approx(1)


def test_the_reference_follows_its_samples_past_gaps() -> None:
    given = answers([0, 3, 2])
    reference = torch.tensor([99.0, -1.0, -2.0], dtype=torch.float64)
    term = RobustLoss(NPO(), TopGroup(1.0))(given, reference)
    torch.testing.assert_close(term.losses, NPO()(given[torch.tensor([1, 2])], reference[1:]).detach())


def test_a_batch_without_any_answer_is_worth_nothing_and_keeps_its_graph() -> None:
    given = answers([3, 2])
    given = AnswerLogProbs(given.tokens, torch.zeros_like(given.mask))
    term = RobustLoss(SatImp(), TopGroup(0.5))(given)
    term.value.backward()
    assert term.value == 0
    assert term.answerless == 2
    assert len(term.weights) == len(term.losses) == 0


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_named_by_their_place_in_the_batch(
    hardness: Literal["loss", "nll"], bad: float
) -> None:
    given = answers([0, 3, 2, 1])
    reference = torch.tensor([0.0, -1.0, -bad, -1.0], dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"losses of samples \[2\] of this batch are not finite .* lower learning_rate"
    ):
        RobustLoss(NPO(), TopGroup(0.5), hardness)(given, reference)


def test_autocast_does_not_lower_the_precision() -> None:
    given, robust = answers(), RobustLoss(SimNPO(), TopGroup(0.5), "nll")
    exact = robust(given).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert robust(given).value == exact
