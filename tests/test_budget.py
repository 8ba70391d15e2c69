"""A budget for the retain loss: alpha follows it exactly, settles where it is met, and is part of a run's state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baldro_ext import BalDROTrainer
from baldro_ext.budget import RetainBudget

from .tiny import arguments, llama, pairs, samples

BEFORE = 0.3


def alphas(losses: np.ndarray, before: float, budget: float, alpha: float, step: float) -> np.ndarray:
    """The weight after each loss of a run: the multiplier as a sum in the logarithm, where it meets none of its limits."""
    ceiling = before + np.interp(np.arange(1, len(losses) + 1), [0, len(losses) / 2], [0, budget])
    weights = 0.2 * 0.8 ** np.subtract.outer(np.arange(len(losses)), np.arange(len(losses)))
    smoothed = before + np.tril(weights) @ (losses - before)
    violation = np.clip((smoothed - ceiling) / budget, -1, 2)
    return np.exp(np.log(alpha) + step * np.cumsum(violation) + 3 * violation)


@given(
    losses=st.lists(st.floats(-1.0, 20.0), min_size=1, max_size=40),
    budget=st.floats(0.01, 5.0),
    alpha=st.floats(1e-3, 1e3),
    step=st.floats(0.001, 0.05),
)
def test_alpha_is_the_formula(losses: list[float], budget: float, alpha: float, step: float) -> None:
    tested = RetainBudget(budget, alpha, step)
    tested.begin(BEFORE)
    found = []
    for step_number, loss in enumerate(losses, 1):
        tested.update(loss, step_number / len(losses))
        found.append(tested.alpha)
    np.testing.assert_allclose(found, alphas(np.array(losses), BEFORE, budget, alpha, step), rtol=1e-9)


@settings(max_examples=20)
@given(
    scale=st.floats(-3, 3).map(lambda exponent: 10**exponent),
    tightness=st.floats(0.01, 0.5),
    distance=st.floats(0.5, 20),
)
def test_a_convex_problem_ends_at_its_budget(scale: float, tightness: float, distance: float) -> None:
    """Of `scale * |x - a|^2` with `|x|^2 <= budget`, whatever the scale of the loss and the alpha of the start."""
    target = np.array([3.0, -4.0]) * distance / 5
    budget = RetainBudget(tightness * distance**2, alpha=1.0)
    budget.begin(0.0)
    x = np.zeros(2)
    for _ in range(1500):
        x -= 0.05 / (scale + budget.alpha) * (2 * scale * (x - target) + 2 * budget.alpha * x)
        budget.update(float(x @ x))
    assert x @ x == pytest.approx(budget.budget, rel=0.01)
    if 2e-3 < (multiplier := scale * (tightness**-0.5 - 1)) < 500:
        assert budget.alpha == pytest.approx(multiplier, rel=0.05)


def test_alpha_finds_back_from_where_the_budget_did_not_matter() -> None:
    budget = RetainBudget(0.1, alpha=2.0)
    budget.begin(BEFORE)
    for _ in range(10_000):
        budget.update(BEFORE)
    assert 0 < budget.alpha < 0.002
    for _ in range(70):
        budget.update(BEFORE + 0.3)
    assert budget.alpha > 2.0


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_step_without_a_number_changes_nothing(loss: float) -> None:
    budget = RetainBudget(0.1)
    budget.begin(BEFORE)
    state = budget.state
    budget.update(loss)
    assert budget.state.equal(state)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_budget_above_no_number_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match=rf"retain_budget=0.1 .* is {loss}: .*retain_budget=null"):
        RetainBudget(0.1).begin(loss)


def test_rare_large_losses_count_in_full() -> None:
    """One step in ten has all the retain loss: the multiplier settles where the mean, and not a cut-off loss, is right."""
    budget = RetainBudget(0.1, step=0.01)
    budget.begin(0.0)
    for number in range(1000):
        budget.update(1.0 if number % 10 == 0 else 0.0)
    settled = float(budget.state[-2])
    assert settled == pytest.approx(1.0, rel=0.2)


def test_the_state_is_all_that_alpha_depends_on() -> None:
    one, other = RetainBudget(0.1), RetainBudget(0.1)
    one.begin(BEFORE)
    one.update(0.9)
    other.state = one.state
    for budget in (one, other):
        budget.update(0.35)
    assert one.alpha == other.alpha != 1.0
    assert one.state.equal(other.state)


def logged(trainer: BalDROTrainer, *names: str) -> np.ndarray:
    """What was logged at each step, `(steps, names)`."""
    entries = [entry for entry in trainer.state.log_history if "retain_loss" in entry]
    return np.array([[entry[name] for name in names] for entry in entries])


def train(folder: Path, given: dict[str, Any] | None = None, **settings: Any) -> BalDROTrainer:
    defaults = {"per_device_train_batch_size": 3, "num_train_epochs": 3, **(given or {})}
    trainer = BalDROTrainer(llama(dropout=0.2), arguments(folder, **defaults), train_dataset=pairs(12), **settings)
    trainer.train()
    return trainer


@pytest.mark.transformers
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    "settings",
    [
        {"base": "NPO"},
        {"base": "SimNPO", "variant": "BalDRO_G", "retain_batch": "matched"},
        {"base": "SatImp", "dv_radius": 0.5, "scope": "dataset"},
        {"base": "GradDiff", "retain_loss_type": "KL"},
    ],
    ids=lambda settings: settings["base"],
)
def test_each_step_is_weighted_by_what_the_steps_before_it_left_of_the_budget(
    settings: dict[str, Any], accumulation: int, tmp_path: Path
) -> None:
    trainer = train(
        tmp_path,
        {"gradient_accumulation_steps": accumulation},
        alpha=2.0,
        retain_budget=0.05,
        budget_step=0.1,
        **settings,
    )
    found = logged(trainer, "alpha", "retain_loss", "retain_excess", "forget_loss_robust", "loss")
    alpha, retain, excess, forget, loss = found.T
    before = retain - excess
    np.testing.assert_allclose(before, before[0], atol=1e-5)
    np.testing.assert_allclose(alpha, [2.0, *alphas(retain, before[0], 0.05, 2.0, 0.1)[:-1]], rtol=1e-3)
    np.testing.assert_allclose(loss, forget + alpha * retain, rtol=1e-3, atol=1e-4)
    assert len({*alpha}) > 3


@pytest.mark.transformers
def test_the_loss_before_is_that_of_the_retain_set_and_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    budgeted, plain = train(tmp_path, retain_budget=0.05), train(tmp_path)
    names = ("retain_loss", "forget_loss_robust")
    assert logged(budgeted, *names)[0].tolist() == logged(plain, *names)[0].tolist()  # with the same dropout
    trainer = BalDROTrainer(llama(), arguments(tmp_path, per_device_train_batch_size=3), train_dataset=pairs(12))
    answers, _ = trainer.answers_of(trainer.model, samples(40, 2))
    expected = float(-answers.sums.sum().detach() / answers.lengths.sum())
    assert trainer.retain_loss_before(trainer.model) == pytest.approx(expected, abs=0.01)
