"""The worst-case distributions, against their definitions evaluated with 50 decimal digits."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from baldro_ext import ChiSquare, DonskerVaradhan, TopGroup
from baldro_ext.report import diagnostics
from baldro_ext.weightings import Weighting

mpmath.mp.dps = 50

LOSSES = {
    "one": [3.7],
    "equal": [2.5] * 7,
    "ties": [1.0, 4.0, 4.0, -2.0, 4.0],
    "npo": [13.862943611, 9.2, 0.004, 13.1, 7.7, 0.5, 13.862943611, 2.0],
    "simnpo": [0.308, 0.01, 0.2, 0.3079999],
    "huge": [1e6, -1e6, 999_999.9999, 0.0],
    "tiny": [1e-6, 3e-6, -2e-6],
    "mixed": [1e6, 1e-6, 0.0, 3.0, -7e5, 2.0],
    "cancelling": [5e5, -5e5, 1.0],
}
BETAS = [1e-4, 0.01, 1.0, 2.0, 100.0, 1e6, -1.0, -1e-3]
RADII = [0.0, 1e-8, 0.01, 0.5, 1.0, 5.0]
CHI2_RADII = [1e-8, 0.01, 0.1, 0.5, 1.0, 3.0]
FRACTIONS = [0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.999, 1.0]

finite_losses = st.lists(st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False), min_size=1, max_size=30)
weightings = st.one_of(
    st.builds(DonskerVaradhan, beta=st.floats(1e-4, 1e6) | st.just(math.inf)),
    st.builds(lambda radius: DonskerVaradhan(radius=radius), st.floats(0, 5)),
    st.builds(TopGroup, fraction=st.floats(0.01, 1), size=st.sampled_from(["exact", "floor"])),
    st.builds(ChiSquare, st.floats(0, 10)),
)


def oracle_tilt(losses: list[float], beta: float) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    """Softmax and dual value, straight from the definition."""
    l = [mpmath.mpf(x) for x in losses]  # noqa: E741
    e = [mpmath.exp(x / mpmath.mpf(beta)) for x in l]
    total = mpmath.fsum(e)
    return [x / total for x in e], mpmath.mpf(beta) * mpmath.log(total / len(l))


def assert_close(found: torch.Tensor, expected: object, scale: float, rtol: float) -> None:
    found_array = found.double().numpy()
    np.testing.assert_allclose(found_array, np.array(expected, dtype=float), rtol=rtol, atol=scale * 1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", LOSSES)
def test_donsker_varadhan_equals_its_definition(name: str, beta: float, dtype: torch.dtype) -> None:
    losses = torch.tensor(LOSSES[name], dtype=dtype)
    weights, value = oracle_tilt(losses.tolist(), beta)
    found = DonskerVaradhan(beta=beta).worst_case(losses)
    # Weights below the smallest normal float32 have no six digits to compare.
    scale = 1.0 if dtype is torch.float64 else 1e-22
    assert_close(found.weights, weights, 1e-300 if dtype is torch.float64 else scale, 1e-6)
    # A value that is a difference of large losses cannot be known better than their last digit.
    assert_close(found.value, value, float(losses.abs().max()), 1e-6)
    assert found.weights.dtype == found.value.dtype == dtype


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", LOSSES)
def test_radius_is_met_exactly_or_the_mass_lies_on_the_maximum(name: str, radius: float) -> None:
    losses = torch.tensor(LOSSES[name], dtype=torch.float64)
    weights = DonskerVaradhan(radius=radius).weights(losses)
    n, ties = len(losses), LOSSES[name].count(max(LOSSES[name]))
    if radius >= math.log(n / ties):
        np.testing.assert_array_equal(weights, (losses == losses.max()).double() / ties)
        return
    kl = mpmath.fsum(mpmath.mpf(w) * mpmath.log(mpmath.mpf(w) * n) for w in weights.tolist() if w > 0)
    assert float(kl) == pytest.approx(radius, rel=1e-5, abs=1e-14)
    # A tilt: log-weights are affine in the losses, so larger losses never weigh less.
    order = losses.argsort()
    assert (weights[order].diff() >= 0).all()


@given(
    losses=st.lists(st.floats(-100, 100), min_size=2, max_size=20),
    radius=st.floats(0.01, 2),
    scale=st.floats(1e-3, 1e3),
)
def test_radius_is_free_of_the_unit_of_the_loss(losses: list[float], radius: float, scale: float) -> None:
    l = torch.tensor(losses, dtype=torch.float64).round(decimals=3)  # noqa: E741
    here, there = (DonskerVaradhan(radius=radius).weights(x) for x in (l, l * scale + 7))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("fraction", FRACTIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_top_group_is_the_conditional_value_at_risk(name: str, fraction: float) -> None:
    losses = [Fraction(x) for x in LOSSES[name]]
    n = len(losses)
    share = max(Fraction(fraction), Fraction(1, n))
    # Rockafellar and Uryasev's minimum over a threshold, attained at one of the losses.
    value = min(t + sum(max(x - t, Fraction(0)) for x in losses) / n / share for t in losses)
    found = TopGroup(fraction=fraction).worst_case(torch.tensor(LOSSES[name], dtype=torch.float64))
    scale = float(max(abs(x) for x in losses))
    assert found.value.item() == pytest.approx(float(value), rel=1e-9, abs=1e-9 * scale)
    assert found.weights.max().item() <= float(1 / share / n) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("fraction", "size", "expected"),
    [
        (0.5, "exact", [0.4, 0.0, 0.4, 0.2, 0.0]),
        (0.5, "floor", [0.5, 0.0, 0.5, 0.0, 0.0]),
        (0.05, "exact", [0.0, 0.0, 1.0, 0.0, 0.0]),
        (0.05, "floor", [0.0, 0.0, 1.0, 0.0, 0.0]),
        (1.0, "exact", [0.2] * 5),
    ],
)
def test_top_group_boundary(fraction: float, size: str, expected: list[float]) -> None:
    losses = torch.tensor([4.0, 1.0, 9.0, 3.0, -2.0], dtype=torch.float64)
    np.testing.assert_allclose(TopGroup(fraction, size).weights(losses), expected, atol=1e-15)  # type: ignore[arg-type]


def test_tied_boundary_samples_share_what_is_left() -> None:
    losses = torch.tensor([2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(TopGroup(0.5).weights(losses), [1 / 2, 1 / 6, 1 / 6, 1 / 6])


def test_whole_groups_are_not_spoilt_by_rounding() -> None:
    losses = torch.arange(30, dtype=torch.float64)
    assert (TopGroup(0.1).weights(losses) > 0).sum() == 3


def oracle_ball(losses: list[float], radius: float) -> list[mpmath.mpf]:
    """Weights `max(0, l - eta)`, normalised, with the threshold found by halving an interval, or even on the maxima."""
    l, n = [mpmath.mpf(x) for x in losses], len(losses)  # noqa: E741
    largest, ties = max(l), losses.count(max(losses))

    def at(eta: mpmath.mpf) -> list[mpmath.mpf]:
        w = [max(mpmath.mpf(0), x - eta) for x in l]
        return [x / mpmath.fsum(w) for x in w]

    def divergence(w: list[mpmath.mpf]) -> mpmath.mpf:
        return mpmath.fsum((n * x - 1) ** 2 for x in w) / (2 * n)

    if divergence(even := [mpmath.mpf(int(x == largest)) / ties for x in l]) <= radius:
        return even
    below, above = min(l) - 1, largest
    while divergence(at(below)) > radius:
        below -= 2 * (largest - below)
    for _ in range(200):
        middle = (below + above) / 2
        below, above = (middle, above) if divergence(at(middle)) <= radius else (below, middle)
    return at(below)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("radius", CHI2_RADII)
@pytest.mark.parametrize("name", LOSSES)
def test_chi_square_weights_rise_from_the_threshold_where_the_radius_is_met(
    name: str, radius: float, dtype: torch.dtype
) -> None:
    losses = torch.tensor(LOSSES[name], dtype=dtype)
    weights = oracle_ball(losses.tolist(), radius)
    found = ChiSquare(radius).worst_case(losses)
    scale = 1.0 if dtype is torch.float64 else 1e8
    assert_close(found.weights, weights, scale, 1e-9 if dtype is torch.float64 else 1e-6)
    value = mpmath.fsum(w * mpmath.mpf(x) for w, x in zip(weights, losses.tolist(), strict=True))
    assert_close(found.value, value, float(losses.abs().max()) * scale, 1e-6)


@given(losses=st.lists(st.integers(-3, 3), min_size=2, max_size=6), radius=st.floats(0.01, 4))
def test_no_distribution_in_the_chi_square_ball_is_worse(losses: list[int], radius: float) -> None:
    l, n = np.array(losses, dtype=float), len(losses)  # noqa: E741
    found = ChiSquare(radius).weights(torch.tensor(l)).numpy()
    assert ((n * found - 1) ** 2).sum() / (2 * n) <= radius * (1 + 1e-9)
    best = minimize(
        lambda q: -q @ l,
        np.full(n, 1 / n),
        jac=lambda q: -l,
        bounds=[(0, 1)] * n,
        constraints=[
            {"type": "eq", "fun": lambda q: q.sum() - 1, "jac": lambda q: np.ones(n)},
            {
                "type": "ineq",
                "fun": lambda q: radius - ((n * q - 1) ** 2).sum() / (2 * n),
                "jac": lambda q: -(n * q - 1),
            },
        ],
        method="SLSQP",
    )
    assert found @ l >= -best.fun - 1e-5


@given(
    losses=st.lists(st.floats(-100, 100), min_size=2, max_size=20),
    radius=st.floats(0.01, 5),
    scale=st.floats(1e-3, 1e3),
)
def test_chi_square_weights_are_monotone_and_free_of_unit_and_shift(
    losses: list[float], radius: float, scale: float
) -> None:
    l = torch.tensor(losses, dtype=torch.float64).round(decimals=3)  # noqa: E741
    here, there = (ChiSquare(radius).weights(x) for x in (l, l * scale + 7))
    torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-6)
    assert (here[l.argsort()].diff() >= 0).all()


def test_the_default_chi_square_radius_keeps_half_of_the_samples_effective() -> None:
    weights = ChiSquare().weights(torch.tensor(LOSSES["npo"], dtype=torch.float64))
    assert diagnostics(weights)["effective_sample_size"] == pytest.approx(8 / 2)


@pytest.mark.parametrize("small", [1e-12, 1e-200])
def test_chi_square_tells_differences_apart_that_are_tiny_beside_others(small: float) -> None:
    losses = torch.tensor([0.0, -small, -2 * small, -1.0], dtype=torch.float64)
    # Three weigh something, and n sum q^2 = 1.5 = (4 / 3) (1 + variance / (reach - mean)^2), of the distances 0, 1 and 2.
    reach = 1 + math.sqrt(2 / 3 / 0.125)
    expected = np.array([reach, reach - 1, reach - 2, 0]) / (3 * reach - 3)
    np.testing.assert_allclose(ChiSquare(0.25).weights(losses), expected, rtol=1e-9)


@given(losses=finite_losses, weighting=weightings)
def test_every_rule_gives_a_distribution_whose_value_lies_between_mean_and_maximum(
    losses: list[float], weighting: Weighting
) -> None:
    l = torch.tensor(losses, dtype=torch.float64)  # noqa: E741
    worst = weighting.worst_case(l)
    assert (worst.weights >= 0).all()
    assert worst.weights.sum().item() == pytest.approx(1)
    slack = 1e-9 * (1 + float(l.abs().max()))
    assert l.mean() - slack <= worst.value <= l.max() + slack


@given(losses=finite_losses, weighting=weightings, seed=st.integers(0, 100))
def test_every_rule_ignores_the_order_of_the_samples(losses: list[float], weighting: Weighting, seed: int) -> None:
    l = torch.tensor(losses, dtype=torch.float64)  # noqa: E741
    order = torch.randperm(len(l), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(weighting.weights(l)[order], weighting.weights(l[order]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "mean",
    [DonskerVaradhan(beta=math.inf), DonskerVaradhan(radius=0), TopGroup(1), TopGroup(1, "floor"), ChiSquare(0)],
    ids=str,
)
def test_limits_are_the_mean(mean: Weighting) -> None:
    losses = torch.tensor(LOSSES["npo"])
    assert mean.is_mean
    torch.testing.assert_close(mean.weights(losses), torch.full((8,), 1 / 8))
    torch.testing.assert_close(mean(losses), losses.mean())


@pytest.mark.parametrize(
    "weighting",
    [DonskerVaradhan(beta=2.0), DonskerVaradhan(beta=-1.0), DonskerVaradhan(radius=0.3), TopGroup(0.4), ChiSquare()],
    ids=str,
)
def test_gradient_is_the_weights(weighting: Weighting) -> None:
    losses = torch.tensor([1.0, 0.5, -3.0, 2.2, 0.9], dtype=torch.float64, requires_grad=True)
    value = weighting(losses)
    (gradient,) = torch.autograd.grad(3 * value, losses)
    torch.testing.assert_close(gradient, 3 * weighting.weights(losses))
    if weighting != DonskerVaradhan(radius=0.3):
        torch.autograd.gradcheck(weighting, losses)
    assert not weighting.weights(losses).requires_grad


def test_gradient_of_the_value_at_a_radius_is_that_of_the_constrained_maximum() -> None:
    weighting, step = DonskerVaradhan(radius=0.3), 1e-5
    losses = torch.tensor([1.0, 0.5, -3.0, 2.2, 0.9], dtype=torch.float64)
    slopes = [(weighting(losses + step * e) - weighting(losses - step * e)) / (2 * step) for e in torch.eye(5).double()]
    torch.testing.assert_close(torch.stack(slopes), weighting.weights(losses), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_named(bad: float) -> None:
    losses = torch.tensor([1.0, bad, 2.0, bad])
    with pytest.raises(ValueError, match=r"not finite at positions \[1, 3\]"):
        DonskerVaradhan(beta=1.0)(losses)


@pytest.mark.parametrize("shape", [(0,), (2, 3), ()])
def test_losses_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one number per sample"):
        TopGroup(0.5).weights(torch.zeros(shape))


def test_losses_in_half_precision_are_refused() -> None:
    with pytest.raises(TypeError, match=r"float32 or float64, not torch\.bfloat16"):
        TopGroup(0.5).weights(torch.zeros(3, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DonskerVaradhan(beta=1.0, radius=1.0), "both are"),
        (
            lambda: DonskerVaradhan(beta=0),
            r"beta=0 has no worst case: use a positive temperature \(2.0 in the paper\)",
        ),
        (lambda: DonskerVaradhan(beta=math.nan), "beta=nan has no worst case"),
        (lambda: DonskerVaradhan(radius=-0.1), "radius=-0.1 is not a KL divergence"),
        (lambda: DonskerVaradhan(radius=math.inf), "radius=inf is not a KL divergence"),
        (lambda: ChiSquare(-0.1), "radius=-0.1 is not a chi-square divergence: use a number >= 0"),
        (lambda: ChiSquare(math.inf), "radius=inf is not a chi-square divergence"),
        (lambda: TopGroup(0), r"fraction=0 is not a share of the samples: use a number in \(0, 1\]"),
        (lambda: TopGroup(1.2), r"fraction=1.2 is not a share"),
        (lambda: TopGroup(0.5, "ceil"), "size='ceil' is unknown"),  # type: ignore[arg-type]
    ],
)
def test_arguments_that_cannot_work_are_refused(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()  # type: ignore[operator]


def test_a_negative_temperature_is_allowed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    weighting = DonskerVaradhan(beta=-1.0)
    assert "soft minimum" in caplog.text
    weights = weighting.weights(torch.tensor([0.0, 1.0]))
    assert weights[0] > weights[1]


@given(losses=finite_losses, weighting=weightings)
def test_diagnostics_agree_with_numpy(losses: list[float], weighting: Weighting) -> None:
    weights = weighting.weights(torch.tensor(losses, dtype=torch.float64))
    w = weights.numpy()
    found = diagnostics(weights)
    assert found["effective_sample_size"] == pytest.approx(1 / (w**2).sum())
    assert found["largest_weight"] == w.max()
    positive = w[w > 0]
    assert found["kl_to_uniform"] == pytest.approx((positive * np.log(positive * len(w))).sum(), abs=1e-12)
    assert 1 - 1e-9 <= found["effective_sample_size"] <= len(w) + 1e-9
