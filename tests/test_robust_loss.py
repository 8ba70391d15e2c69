"""Loss x weighting, with as little work as they need, and as the authors' released trainers."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pytest
import torch
from torch import Tensor

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.adversary import Adversary, Weights
from baldro_ext.answers import Answers
from baldro_ext.losses import NPO, ForgetLoss, GradDiff, SatImp, SimNPO
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.state import SampleState
from baldro_ext.weightings import Weighting

from .test_adversary import GAINS, NAMES, SIZE, WEIGHTINGS, Method, Model, full_set_gradient
from .with_framework import released

LENGTHS = [3, 1, 6, 2, 4]
LOSSES: dict[str, ForgetLoss] = {"NPO": NPO(), "SimNPO": SimNPO(), "SatImp": SatImp()}
REFERENCE = torch.tensor([-2.0, -0.5, -7.0, -1.0, -3.0], dtype=torch.float64)


def answers(lengths: list[int] = LENGTHS) -> Answers:
    """Answers of these lengths whose log-probabilities are leaves that gradients can be read from."""
    tokens = (
        -torch.rand(len(lengths), max(lengths), generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    )
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Answers((tokens * mask).requires_grad_(), mask)


class Term(NamedTuple):
    """What a robust loss returns."""

    value: Tensor | float
    weights: Weights


@dataclass(frozen=True)
class Robust:
    """A robust loss within a batch, applied to log-probabilities that are there already."""

    loss: ForgetLoss
    weighting: Weighting
    hardness: Literal["loss", "nll"] = "loss"
    unit: Literal["sample", "token"] = "sample"

    def __call__(self, given: Answers, reference: Tensor | None = None) -> Term:
        adversary = Adversary(self.weighting, len(given.mask), unit=self.unit, by_loss=self.hardness == "loss")
        robust = RobustLoss(self.loss, adversary)
        index = torch.arange(len(given.mask))
        labeled = given.lengths > 0
        return Term(*robust(lambda rows: Answers(given.tokens[rows], given.mask[rows]), index, labeled, reference))


def value_and_gradient(value: Tensor, given: Answers) -> tuple[float, Tensor]:
    (gradient,) = torch.autograd.grad(value, given.tokens)
    return value.item(), gradient * given.mask


@pytest.mark.parametrize("loss", [NPO(), SimNPO(), SatImp()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("mean", [DonskerVaradhan(beta=math.inf), TopGroup(1.0)], ids=["DV", "G"])
def test_even_weights_are_the_mean_over_samples(loss: ForgetLoss, mean: DonskerVaradhan | TopGroup) -> None:
    given = answers()
    term = Robust(loss, mean)(given, REFERENCE)
    expected = loss(given, REFERENCE).mean()
    ours, theirs = value_and_gradient(term.value, given), value_and_gradient(expected, given)
    assert ours[0] == pytest.approx(theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])
    torch.testing.assert_close(term.weights.gradient, torch.full((5,), 0.2).double())


def test_even_weights_over_tokens_are_the_mean_over_tokens() -> None:
    given = answers()
    term = Robust(SatImp(), TopGroup(1.0), unit="token")(given)
    p = given.tokens.detach().exp()
    expected = (p**5 * (1 - p) * given.tokens)[given.mask].mean()
    assert term.value.item() == pytest.approx(expected.item())
    torch.testing.assert_close(term.weights.gradient.sum(-1), torch.tensor(LENGTHS).double() / 16)


@pytest.mark.parametrize("base", released.LOSSES)
@pytest.mark.parametrize("variant", [released.dr, released.group], ids=["Dr", "Group"])
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:4]], ids=["odd", "even"])
def test_released_formulas(base: str, variant: Callable[..., Tensor], lengths: list[int]) -> None:
    """With the settings of `+release=DV` and `+release=G`."""
    given, unit = answers(lengths), "token" if base == "SatImp" else "sample"
    robust = (
        Robust(LOSSES[base], DonskerVaradhan(beta=-1.0), "loss", unit)
        if variant is released.dr
        else Robust(LOSSES[base], TopGroup(0.5, "floor"), "nll", unit)
    )
    ours = value_and_gradient(robust(given, REFERENCE[: len(lengths)]).value, given)
    rows = [tokens[mask] for tokens, mask in zip(given.tokens, given.mask, strict=True)]
    theirs = value_and_gradient(variant(released.LOSSES[base], rows, list(REFERENCE[: len(lengths)])), given)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-12)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-10, atol=1e-14)


def test_hardness_nll_chooses_by_likelihood_and_not_by_loss() -> None:
    given = answers()
    term = Robust(NPO(), TopGroup(0.2), "nll")(given, REFERENCE)
    assert term.weights.gradient.argmax() == given.means.argmax()
    term = Robust(NPO(), TopGroup(0.2), "loss")(given, REFERENCE)
    assert term.weights.gradient.argmax() == (given.sums - REFERENCE).argmax()


@pytest.mark.parametrize("unit", ["sample", "token"])
def test_samples_without_answer_weigh_nothing(unit: Literal["sample", "token"]) -> None:
    robust = Robust(SatImp(), DonskerVaradhan(beta=0.01), unit=unit)
    whole, with_gaps = answers([3, 2]), answers([0, 3, 0, 2])
    gap_tokens = torch.zeros(4, 3, dtype=torch.float64)
    gap_tokens[[1, 3]] = whole.tokens.detach()
    with_gaps = Answers(gap_tokens.requires_grad_(), with_gaps.mask)
    term = robust(with_gaps)
    assert term.weights.rows.tolist() == [1, 3]
    assert term.value.item() == pytest.approx(robust(whole).value.item())
    assert term.weights.gradient.sum().item() == pytest.approx(1)


def test_the_reference_follows_its_samples_past_gaps() -> None:
    given = answers([0, 3, 2])
    reference = torch.tensor([99.0, -1.0, -2.0], dtype=torch.float64)
    term = Robust(NPO(), TopGroup(1.0))(given, reference)
    assert term.weights.mean == pytest.approx(
        NPO()(Answers(given.tokens[1:], given.mask[1:]), reference[1:]).mean().item()
    )


def test_a_batch_without_any_answer_is_worth_nothing_and_keeps_its_graph() -> None:
    given = answers([3, 2])
    given = Answers(given.tokens, torch.zeros_like(given.mask))
    term = Robust(SatImp(), TopGroup(0.5))(given)
    term.value.backward()
    assert term.value == 0
    assert len(term.weights.distribution) == 0
    assert term.weights.mean is None


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_that_are_not_finite_are_named_by_their_place(hardness: Literal["loss", "nll"], bad: float) -> None:
    given = answers([0, 3, 2, 1])
    reference = torch.tensor([0.0, -1.0, -bad, -1.0], dtype=torch.float64)
    with pytest.raises(
        ValueError, match=r"losses of samples \[2\] of the forget set are not finite .* lower learning_rate"
    ):
        Robust(NPO(), TopGroup(0.5), hardness)(given, reference)


class Passes:
    """Runs the model on rows of a micro-batch, noting how many, and whether with a graph."""

    def __init__(self, index: Tensor) -> None:
        self.model, self.index = Model(), index
        self.parameters = self.model.parameters.clone().requires_grad_()
        self.seen: list[tuple[int, bool]] = []

    def __call__(self, rows: Tensor) -> Answers:
        self.seen.append((len(rows), torch.is_grad_enabled()))
        return self.model.answers(self.parameters, self.index[rows])

    @property
    def reference(self) -> Tensor:
        return (self.model.answers(self.model.parameters, self.index).sums - GAINS[self.index]).detach()

    def term(self, robust: RobustLoss, *, may_skip: bool = False) -> Term:
        labeled = torch.ones(len(self.index), dtype=torch.bool)
        return Term(*robust(self, self.index, labeled, self.reference, may_skip=may_skip))

    def gradient(self, value: Tensor | float) -> Tensor:
        assert isinstance(value, Tensor)
        (gradient,) = torch.autograd.grad(value, self.parameters)
        return gradient


EVERYONE = torch.arange(SIZE)


def scored(method: Method) -> RobustLoss:
    """A robust loss over the whole set, after the scoring pass."""
    robust, passes = method.robust(SIZE, "dataset"), Passes(EVERYONE)
    with torch.no_grad():
        answers = passes(EVERYONE)
        losses = method.loss(answers, passes.reference)
    robust.adversary.state = SampleState.blank(SIZE)
    robust.adversary.state.record(EVERYONE, losses, losses if method.hardness == "loss" else answers.means)
    return robust


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("loss", [NPO(), SimNPO(), SatImp()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.6])
def test_the_group_alone_has_the_loss_and_gradient_of_all(
    fraction: float, loss: ForgetLoss, hardness: Literal["loss", "nll"]
) -> None:
    passes, whole = Passes(EVERYONE), Passes(EVERYONE)
    term = passes.term(Method(loss, TopGroup(fraction), hardness).robust(SIZE, "batch"))
    answers = whole(EVERYONE)
    losses = loss(answers, whole.reference)
    weights = TopGroup(fraction).weights((losses if hardness == "loss" else answers.means).detach())
    assert term.weights.value.item() == pytest.approx(float((weights * losses.detach()).sum()), rel=1e-12)
    torch.testing.assert_close(
        passes.gradient(term.value), whole.gradient((weights * losses).sum()), rtol=1e-12, atol=1e-15
    )
    torch.testing.assert_close(term.weights.gradient, weights)
    assert passes.seen == [(SIZE, False), (int((weights > 0).sum()), True)]


@pytest.mark.parametrize("weighting", [DonskerVaradhan(beta=2.0), TopGroup(0.7), TopGroup(1.0)])
def test_one_pass_where_choosing_first_would_cost_more(weighting: Weighting) -> None:
    passes = Passes(EVERYONE)
    passes.term(Method(SimNPO(), weighting).robust(SIZE, "batch"))
    assert passes.seen == [(SIZE, True)]


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
@pytest.mark.parametrize("loss", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_gradient_over_one_epoch_equals_full_set_gradient_by_the_group_alone(
    weighting: Weighting, loss: ForgetLoss, micro_batch: int, hardness: Literal["loss", "nll"]
) -> None:
    method = Method(loss, weighting, hardness)
    robust = scored(method)
    total, trained = torch.zeros(5, dtype=torch.float64), 0
    for index in EVERYONE.split(micro_batch):
        passes = Passes(index)
        term = passes.term(robust, may_skip=True)
        trained += sum(rows for rows, _ in passes.seen)
        if isinstance(term.value, Tensor):
            total += passes.gradient(term.value) * len(index) / SIZE
    torch.testing.assert_close(total, full_set_gradient(method), rtol=1e-8, atol=1e-12)
    assert trained == (4 if isinstance(weighting, TopGroup) else SIZE)  # 0.3 * 13 is 3.9


def test_a_micro_batch_without_any_of_the_group_is_skipped_only_where_it_may_be() -> None:
    robust = scored(Method(NPO(), TopGroup(0.1)))
    easiest = robust.adversary.state.losses.argsort()[:2]
    skipped, kept = Passes(easiest), Passes(easiest)
    term = skipped.term(robust, may_skip=True)
    assert skipped.seen == []
    assert isinstance(term.value, float)
    assert not term.weights.gradient.any()
    term = kept.term(robust)
    assert kept.seen == [(1, True)]
    assert not kept.gradient(term.value).any()


def test_what_the_group_passed_is_what_is_known_of_it() -> None:
    method = Method(SimNPO(), TopGroup(0.3))
    robust = scored(method)
    state = robust.adversary.state
    before = state.losses.clone()
    passes = Passes(EVERYONE)
    with torch.no_grad():
        passes.parameters += 0.1
    term = passes.term(robust)
    trained = term.weights.gradient > 0
    now = method.loss(passes.model.answers(passes.parameters.detach(), EVERYONE))
    torch.testing.assert_close(state.losses[trained], now[trained])
    assert torch.equal(state.losses[~trained], before[~trained])
    assert term.weights.value.item() == pytest.approx((term.weights.gradient * state.losses).sum().item())


@pytest.mark.parametrize("hardness", ["loss", "nll"])
def test_a_loss_over_tokens_chooses_tokens_by_loss_and_samples_by_likelihood(hardness: Literal["loss", "nll"]) -> None:
    given = answers()
    term = Robust(GradDiff(), TopGroup(0.2), hardness, "token")(given)
    tokens = given.tokens.detach()[given.mask]
    if hardness == "loss":  # 3.2 of 16 tokens
        worst = tokens.sort(descending=True).values
        expected = (worst[:3].sum() + 0.2 * worst[3]) / 3.2
    else:  # the best remembered of 5 samples
        hardest = int(given.means.argmax())
        expected = given.tokens.detach()[hardest][given.mask[hardest]].mean()
    assert term.weights.value.item() == pytest.approx(expected.item())
