"""Per-sample forget losses, against their papers' formulas in float64 numpy."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from baldro_ext.answers import Answers, needed
from baldro_ext.losses import (
    CEU,
    DPO,
    FORGET_LOSSES,
    NPO,
    PDU,
    RMU,
    UNDIAL,
    WGA,
    ForgetLoss,
    GradDiff,
    SatImp,
    SimNPO,
    activation_distances,
)

Vector = NDArray[np.float64]


def answers_of(*samples: list[float], dtype: torch.dtype = torch.float64) -> Answers:
    """Answers with these token log-probabilities, padded."""
    width = max(map(len, samples))
    tokens = torch.tensor([[*s, *[0.0] * (width - len(s))] for s in samples], dtype=dtype)
    mask = torch.tensor([[True] * len(s) + [False] * (width - len(s)) for s in samples])
    return Answers(tokens, mask)


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


@pytest.mark.parametrize("loss", [NPO(), SimNPO(), SatImp(), WGA(), GradDiff()], ids=repr)
def test_losses_are_finite_for_answers_of_any_likelihood(loss: ForgetLoss) -> None:
    answers = answers_of([-1e4] * 50, [0.0] * 3, [-1e-7], dtype=torch.float32)
    assert loss(answers, torch.tensor([0.0, -1e4, -1.0])).isfinite().all()


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_wga(beta: float) -> None:
    answers = answers_of(*SAMPLES)
    answers.tokens.requires_grad_()
    losses = WGA(beta=beta)(answers)
    np.testing.assert_allclose(losses.detach(), [np.mean(np.exp(s) ** beta * np.array(s)) for s in SAMPLES])
    losses.sum().backward()
    fixed = answers.tokens.detach().exp() ** beta
    torch.testing.assert_close(answers.tokens.grad, answers.mask * fixed / answers.lengths[:, None])


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_dpo(beta: float) -> None:
    others = [[-1.0], [-2.0, -0.5], [-0.3] * 4, [-4.0, -1.0]]
    answers = replace(answers_of(*SAMPLES), alternate=answers_of(*others))
    before = np.array([3.0, -0.5, -20.0, 0.0])  # log pi(y) - log pi(y_alt) before unlearning
    moved = np.array([sum(sample) - sum(other) for sample, other in zip(SAMPLES, others, strict=True)]) - before
    losses = DPO(beta=beta)(answers, torch.tensor(before))
    np.testing.assert_allclose(losses, 2 / beta * np.log1p(np.exp(beta * moved)))
    torch.testing.assert_close(
        DPO(beta)(answers, DPO().log_ratios(answers)), torch.full((4,), 2 / beta * np.log(2)).double()
    )


OUTPUTS = np.random.default_rng(0).normal(scale=4, size=(3, 6, 9))  # logits of 9 tokens, or activations of 9 dimensions
TEACHER = np.random.default_rng(1).normal(scale=4, size=(3, 6, 9))
TARGETS = np.random.default_rng(2).integers(9, size=(3, 6))
COUNTED = np.array([[0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0]], dtype=bool)


def outputs(of: Vector = OUTPUTS, before: Vector = TEACHER) -> Answers:
    """What a pass gives the losses that read more than log-probabilities; both masks are `COUNTED`."""
    mask = torch.tensor(COUNTED)
    seen, earlier = torch.tensor(of), torch.tensor(before)
    teacher = Answers(None, mask, own=mask, logits=earlier, activations=earlier)
    return Answers(None, mask, torch.tensor(TARGETS), mask, seen.requires_grad_(), seen, None, teacher)


def log_softmax(logits: Vector) -> Vector:
    return np.asarray(logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True))


def cross_entropies(logits: Vector, teacher: Vector, lowered: float) -> Vector:
    """Per position, by a loop: the cross-entropy to the teacher with the true token's logit lowered."""
    found = np.empty(TARGETS.shape)
    for place in np.ndindex(*TARGETS.shape):
        changed = teacher[place].copy()
        changed[TARGETS[place]] -= lowered
        found[place] = -np.sum(np.exp(log_softmax(changed)) * log_softmax(logits[place]))
    return found


def means_of(tokens: Vector, counted: NDArray[np.bool_] = COUNTED) -> list[float]:
    return [float(row[chosen].mean()) if chosen.any() else 0.0 for row, chosen in zip(tokens, counted, strict=True)]


@pytest.mark.parametrize("ignored", [0, 1, 2])
def test_ceu(ignored: int) -> None:
    counted = COUNTED & (COUNTED.cumsum(-1) > ignored)
    np.testing.assert_allclose(
        CEU(ignored)(outputs()).detach(), means_of(cross_entropies(OUTPUTS, OUTPUTS, 1e9), counted)
    )


@pytest.mark.parametrize("beta", [0.0, 10.0])
def test_undial(beta: float) -> None:
    np.testing.assert_allclose(UNDIAL(beta)(outputs()).detach(), means_of(cross_entropies(OUTPUTS, TEACHER, beta)))


def test_pdu() -> None:
    np.testing.assert_allclose(PDU()(outputs()).detach(), means_of((OUTPUTS.max(-1) - OUTPUTS.mean(-1)) ** 2))


@pytest.mark.parametrize("seed", [0, 7])
def test_rmu(seed: int) -> None:
    loss = RMU(steering_coeff=3.0, steering_seed=seed)
    vector = loss.steering_vector(9).numpy()
    np.testing.assert_allclose(np.linalg.norm(vector), 3.0, rtol=1e-6)
    assert (vector >= 0).all()
    assert not np.array_equal(vector, RMU(steering_coeff=3.0, steering_seed=seed + 1).steering_vector(9))
    np.testing.assert_allclose(loss(outputs()).detach(), means_of(((OUTPUTS - vector) ** 2).mean(-1)), rtol=1e-6)


def test_activations_are_compared_with_those_before_unlearning() -> None:
    np.testing.assert_allclose(activation_distances(outputs()).detach(), means_of(((OUTPUTS - TEACHER) ** 2).mean(-1)))


@pytest.mark.parametrize("fixed", ["CEU", "UNDIAL"])
def test_the_distribution_to_learn_is_fixed(fixed: str) -> None:
    """The gradient with respect to the logits is p - q over the number of tokens."""
    answers = outputs()
    FORGET_LOSSES[fixed]()(answers).sum().backward()
    teacher, lowered = (OUTPUTS, 1e9) if fixed == "CEU" else (TEACHER, 10.0)
    counted = COUNTED & (COUNTED.cumsum(-1) > (1 if fixed == "CEU" else 0))
    for place in np.ndindex(*TARGETS.shape):
        changed = teacher[place].copy()
        changed[TARGETS[place]] -= lowered
        wanted = np.exp(log_softmax(OUTPUTS[place])) - np.exp(log_softmax(changed))
        gradient = needed(answers.logits, "logits").grad[place]  # type: ignore[index]
        share = counted[place] / max(1, counted[place[0]].sum())
        np.testing.assert_allclose(gradient, wanted * share, atol=1e-12)


@pytest.mark.parametrize("loss", [CEU(), UNDIAL(), PDU()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_losses_over_logits_are_finite_for_any_logits(loss: ForgetLoss, dtype: torch.dtype) -> None:
    answers = outputs(np.where(np.eye(6, 9), 1e4, -1e4) * np.ones((3, 1, 1)))
    low = replace(answers, logits=needed(answers.logits, "logits").detach().to(dtype).requires_grad_())
    losses = loss(low)
    assert losses.isfinite().all()
    losses.sum().backward()
    assert needed(low.logits, "logits").grad.isfinite().all()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FORGET_LOSSES)
def test_a_loss_reads_no_more_than_it_declares(name: str) -> None:
    """Given only what its `needs` name, a loss is computed; without any one of them, it says what is missing."""
    loss, everything = FORGET_LOSSES[name](), outputs()
    needs, mask = loss.needs, everything.mask
    tokens = torch.where(mask, -1.0, 0.0).double()
    both = replace(everything, log_probs=tokens, alternate=Answers(tokens, mask))
    parts = {
        "log_probs": needs.log_probs,
        "logits": needs.logits or needs.own_logits,
        "activations": needs.activations is not None,
        "alternate": needs.alternate,
        "before": needs.before,
    }
    given = replace(both, **{part: None for part, declared in parts.items() if not declared})
    reference = torch.zeros(3).double() if loss.needs_reference else None
    assert loss(given, reference).shape == (3,)
    for part in [part for part, declared in parts.items() if declared]:
        with pytest.raises(ValueError, match=rf"reads {part} of the answers: declare it"):
            loss(replace(given, **{part: None}), reference)


def test_npo_without_reference_says_so() -> None:
    with pytest.raises(ValueError, match="NPO needs reference"):
        NPO()(answers_of(*SAMPLES))


def test_the_registry_finds_losses_by_name() -> None:
    assert {"CEU", "DPO", "GradDiff", "NPO", "PDU", "RMU", "SatImp", "SimNPO", "UNDIAL", "WGA"} <= FORGET_LOSSES.keys()
    assert FORGET_LOSSES["SimNPO"](beta=2.5) == SimNPO(beta=2.5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NPO(beta=0), "beta=0 is not valid for NPO: use a positive number"),
        (lambda: SimNPO(delta=float("nan")), "delta=nan is not valid for SimNPO: use a finite number"),
        (lambda: SatImp(beta2=-1), "beta2=-1 is not valid for SatImp: use a number >= 0"),
        (lambda: RMU(module_regex="layers.("), "module_regex='layers.(' is not a regular expression"),
    ],
)
def test_what_cannot_work_is_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
