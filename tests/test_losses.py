"""Per-sample forget losses, against their papers' formulas in float64 numpy."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from baldro_ext.logprobs import AnswerLogProbs
from baldro_ext.losses import FORGET_LOSSES, NPO, ForgetLoss, GradDiff, SatImp, SimNPO, argument_names, forget_loss

Vector = NDArray[np.float64]


def answers_of(*samples: list[float], dtype: torch.dtype = torch.float64) -> AnswerLogProbs:
    """Answers with these token log-probabilities, padded."""
    width = max(map(len, samples))
    tokens = torch.tensor([[*s, *[0.0] * (width - len(s))] for s in samples], dtype=dtype)
    mask = torch.tensor([[True] * len(s) + [False] * (width - len(s)) for s in samples])
    return AnswerLogProbs(tokens, mask)


SAMPLES = [[-0.1, -2.0, -0.5], [-1e-4], [-3.0, -7.0, -0.01, -11.0], [-0.7, -0.7]]
REFERENCE = np.array([-1.0, -0.2, -30.0, -1.4])


def npo(sample: Vector, reference: float, beta: float) -> float:
    return float(2 / beta * np.log1p((np.exp(sample.sum()) / np.exp(reference)) ** beta))


def simnpo(sample: Vector, beta: float, delta: float) -> float:
    return float(2 / beta * np.log1p(np.exp(beta * (sample.mean() + delta))))


def satimp(sample: Vector, beta1: float, beta2: float) -> float:
    p = np.exp(sample)
    return float(np.mean(p**beta1 * (1 - p) ** beta2 * np.log(p)))


@pytest.mark.parametrize("beta", [0.05, 0.1, 1.0])
def test_npo(beta: float) -> None:
    losses = NPO(beta=beta)(answers_of(*SAMPLES), torch.tensor(REFERENCE))
    np.testing.assert_allclose(losses, [npo(np.array(s), r, beta) for s, r in zip(SAMPLES, REFERENCE, strict=True)])


@pytest.mark.parametrize(("beta", "delta"), [(4.5, 0.0), (2.5, 0.3)])
def test_simnpo(beta: float, delta: float) -> None:
    losses = SimNPO(beta=beta, delta=delta)(answers_of(*SAMPLES))
    np.testing.assert_allclose(losses, [simnpo(np.array(s), beta, delta) for s in SAMPLES])


@pytest.mark.parametrize(("beta1", "beta2"), [(5.0, 1.0), (0.0, 0.0), (1.0, 2.0)])
def test_satimp(beta1: float, beta2: float) -> None:
    losses = SatImp(beta1=beta1, beta2=beta2)(answers_of(*SAMPLES))
    np.testing.assert_allclose(losses, [satimp(np.array(s), beta1, beta2) for s in SAMPLES])


def test_graddiff() -> None:
    np.testing.assert_allclose(GradDiff()(answers_of(*SAMPLES)), [np.mean(s) for s in SAMPLES])


def test_satimp_holds_its_factors_fixed() -> None:
    answers = answers_of(*SAMPLES)
    answers.tokens.requires_grad_()
    SatImp()(answers).sum().backward()
    p = answers.tokens.detach().exp()
    torch.testing.assert_close(answers.tokens.grad, answers.mask * p**5 * (1 - p) / answers.lengths[:, None])


def test_npo_starts_where_model_and_reference_agree() -> None:
    answers = answers_of(*SAMPLES)
    torch.testing.assert_close(NPO(0.1)(answers, answers.sums), torch.full((4,), 13.862943611198906).double())


@pytest.mark.parametrize(
    ("loss", "reference"), [(NPO(), torch.zeros(1).double()), (SimNPO(), None)], ids=["NPO", "SimNPO"]
)
@given(tokens=st.lists(st.floats(-20, -0.01), min_size=1, max_size=8), less=st.floats(0.1, 5))
def test_remembering_more_costs_more(
    loss: ForgetLoss, reference: torch.Tensor | None, tokens: list[float], less: float
) -> None:
    remembered, forgotten = (loss(answers_of(t), reference) for t in (tokens, [x - less for x in tokens]))
    assert remembered > forgotten


@pytest.mark.parametrize("loss", [build() for build in FORGET_LOSSES.values()], ids=FORGET_LOSSES)
def test_losses_are_finite_for_answers_of_any_likelihood(loss: ForgetLoss) -> None:
    answers = answers_of([-1e4] * 50, [0.0] * 3, [-1e-7], dtype=torch.float32)
    assert loss(answers, torch.tensor([0.0, -1e4, -1.0])).isfinite().all()


def test_npo_without_reference_says_so() -> None:
    with pytest.raises(ValueError, match="NPO needs reference"):
        NPO()(answers_of(*SAMPLES))


def test_the_registry_finds_losses_by_name() -> None:
    assert {"GradDiff", "NPO", "SatImp", "SimNPO"} <= FORGET_LOSSES.keys()
    assert forget_loss("SimNPO", beta=2.5) == SimNPO(beta=2.5)
    assert argument_names("SatImp") == ("beta1", "beta2")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: forget_loss("SimNP0"),
            f"base='SimNP0' is not a known forget loss: there are {', '.join(sorted(FORGET_LOSSES))}; did you mean SimNPO?",
        ),
        (lambda: forget_loss("npo"), "did you mean NPO?"),
        (
            lambda: forget_loss("xyz"),
            f"base='xyz' is not a known forget loss: there are {', '.join(sorted(FORGET_LOSSES))}",
        ),
        (lambda: forget_loss("SatImp", beta=1), "SatImp has no argument 'beta': there are beta1, beta2"),
        (lambda: NPO(beta=0), "beta=0 is not valid for NPO: use a positive number"),
        (lambda: SimNPO(delta=float("nan")), "delta=nan is not valid for SimNPO: use a finite number"),
        (lambda: SatImp(beta2=-1), "beta2=-1 is not valid for SatImp: use a number >= 0"),
    ],
)
def test_what_cannot_work_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
