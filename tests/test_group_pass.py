"""Choosing a group first and training on it alone, against training on all samples."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.group_pass import forget_term
from baldro_ext.ledger import Ledger
from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.objectives import NPO, ForgetLoss, SatImp, SimNPO
from baldro_ext.robust_loss import ForgetTerm, RobustLoss
from baldro_ext.scope import Scope

from .test_scope import GAINS, NAMES, SIZE, WEIGHTINGS, Model, full_set_gradient

EVERYONE = torch.arange(SIZE)


class Passes:
    """Runs the model on rows of a micro-batch, noting which rows, and whether with a graph."""

    def __init__(self, indices: Tensor) -> None:
        self.model, self.indices = Model(), indices
        self.parameters = self.model.parameters.clone().requires_grad_()
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, rows: Tensor | None) -> AnswerLogProbs:
        chosen = self.indices if rows is None else self.indices[rows]
        self.seen.append((len(chosen), torch.is_grad_enabled()))
        return self.model.answers(self.parameters, chosen)

    @property
    def reference(self) -> Tensor:
        return (self.model.answers(self.model.parameters, self.indices).sums - GAINS[self.indices]).detach()

    def term(self, robust: RobustLoss, scope: Scope, *, may_skip: bool = False) -> ForgetTerm:
        answered = torch.ones(len(self.indices), dtype=torch.bool)
        return forget_term(robust, self, self.reference, scope, self.indices, answered, may_skip=may_skip)

    def gradient(self, term: ForgetTerm) -> Tensor:
        (gradient,) = torch.autograd.grad(term.value, self.parameters)
        return gradient


def scored_ledger(robust: RobustLoss) -> Ledger:
    """A ledger after the scoring pass."""
    passes = Passes(EVERYONE)
    with torch.no_grad():
        answers = passes(None)
        losses = robust.objective(answers, passes.reference)
    ledger = Ledger.blank(SIZE)
    ledger.record(EVERYONE, losses, losses if robust.hardness == "loss" else answers.means)
    return ledger


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("objective", [NPO(), SimNPO(), SatImp()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.6])
def test_the_group_alone_has_the_loss_and_gradient_of_all(
    fraction: float, objective: ForgetLoss, hardness: Literal["loss", "nll"]
) -> None:
    robust = RobustLoss(objective, TopGroup(fraction), hardness)
    lean, whole = Passes(EVERYONE), Passes(EVERYONE)
    ours = lean.term(robust, Scope("batch", Ledger.blank(SIZE)))
    theirs = robust(whole(None), whole.reference, Scope("batch", Ledger.blank(SIZE)), EVERYONE)
    assert ours.value.item() == pytest.approx(theirs.value.item(), rel=1e-12)
    torch.testing.assert_close(lean.gradient(ours), whole.gradient(theirs), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours.losses, theirs.losses)
    torch.testing.assert_close(ours.sample_weights, theirs.sample_weights)
    assert lean.seen == [(SIZE, False), (int((theirs.sample_weights > 0).sum()), True)]


@pytest.mark.parametrize("weighting", [DonskerVaradhan(beta=2.0), TopGroup(0.7), TopGroup(1.0)])
def test_one_pass_where_choosing_first_would_cost_more(weighting: DonskerVaradhan | TopGroup) -> None:
    passes = Passes(EVERYONE)
    passes.term(RobustLoss(SimNPO(), weighting), Scope("batch", Ledger.blank(SIZE)))
    assert passes.seen == [(SIZE, True)]


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
@pytest.mark.parametrize("objective", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_gradient_over_one_epoch_equals_full_set_gradient_by_the_group_alone(
    weighting: DonskerVaradhan | TopGroup, objective: ForgetLoss, micro_batch: int, hardness: Literal["loss", "nll"]
) -> None:
    robust = RobustLoss(objective, weighting, hardness)
    ledger = scored_ledger(robust)
    total, trained = torch.zeros(5, dtype=torch.float64), 0
    for indices in EVERYONE.split(micro_batch):
        passes = Passes(indices)
        term = passes.term(robust, Scope("dataset", ledger), may_skip=True)
        trained += sum(rows for rows, _ in passes.seen)
        if term.value.requires_grad:
            total += passes.gradient(term) * len(indices) / SIZE
    torch.testing.assert_close(total, full_set_gradient(robust), rtol=1e-8, atol=1e-12)
    assert trained == (4 if isinstance(weighting, TopGroup) else SIZE)  # 0.3 * 13 is 3.9


def test_a_micro_batch_without_any_of_the_group_is_skipped_only_where_it_may_be() -> None:
    robust = RobustLoss(NPO(), TopGroup(0.1))
    ledger = scored_ledger(robust)
    easiest = ledger.losses.argsort()[:2]
    skipped, kept = Passes(easiest), Passes(easiest)
    term = skipped.term(robust, Scope("dataset", ledger), may_skip=True)
    assert (skipped.seen, term.value.item()) == ([], 0)
    term = kept.term(robust, Scope("dataset", ledger))
    assert kept.seen == [(1, True)]
    assert not kept.gradient(term).any()


def test_what_the_group_passed_is_what_the_ledger_knows() -> None:
    robust = RobustLoss(SimNPO(), TopGroup(0.3))
    ledger = scored_ledger(robust)
    before = ledger.losses.clone()
    passes = Passes(EVERYONE)
    with torch.no_grad():
        passes.parameters += 0.1
    term = passes.term(robust, Scope("dataset", ledger))
    trained = term.sample_weights > 0
    now = robust.objective(passes.model.answers(passes.parameters.detach(), EVERYONE))
    torch.testing.assert_close(ledger.losses[trained], now[trained])
    assert torch.equal(ledger.losses[~trained], before[~trained])
    assert term.value.item() == pytest.approx((term.sample_weights * ledger.losses).sum().item())
