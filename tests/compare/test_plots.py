"""The pictures: what they draw, and why they sometimes do not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from baldro_ext.tools.compare import Comparison, Options, compare, plots
from baldro_ext.tools.compare.plots import curves, distribution, tradeoff, weights
from baldro_ext.tools.compare.plots.style import arranged
from tests.compare.folders import Workspace, study

ALL = [
    "remainder_and_utility", "forget_quality_and_utility", "forgetting_by_sample", "probability_by_sample",
    "extraction_by_sample", "weights_over_training", "hardest_samples",
]  # fmt: skip


@pytest.fixture(scope="module")
def found(finished: Path) -> Comparison:
    return compare([str(finished)], Options())


def test_a_whole_study_has_every_picture(found: Comparison) -> None:
    pictures = plots.draw(found)
    assert [picture.name for picture in pictures] == ALL
    assert all(picture.figure is not None and picture.caption for picture in pictures)


@pytest.mark.parametrize(
    "trainers", [("NPO", "BalDRO_DV"), ("SimNPO", "BalDRO_DV_GradDiff_radius", "BalDRO_G_with_a_long_suffix=0.25")]
)
def test_no_text_of_a_picture_leaves_it(tmp_path: Path, trainers: tuple[str, ...]) -> None:
    study(tmp_path, trainers, seeds=(0, 1))
    for picture in plots.draw(compare([str(tmp_path)], Options())):
        assert picture.figure is not None
        picture.figure.draw_without_rendering()
        width, height = picture.figure.bbox.size
        ticks = {tick for axes in picture.figure.axes for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())}
        # Tick labels beyond the ends of an axis are there, but not drawn.
        for text in filter(lambda text: text.get_text(), set(picture.figure.findobj(Text)) - ticks):
            box = text.get_window_extent()
            assert box.x0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text


def test_a_picture_without_data_says_what_is_missing(workspace: Workspace) -> None:
    workspace.run("a", aggregates={"forget_quality": 1e-60})
    reasons = {picture.name: picture.reason for picture in plots.draw(compare([str(workspace.folder)], Options()))}
    assert "degenerate here: the largest of 1 p-values is 1e-60" in reasons["forget_quality_and_utility"]
    assert "eval_strategy=epoch" in reasons["forgetting_by_sample"]
    assert "extraction_strength" in reasons["extraction_by_sample"]
    assert "no training logged weights" in reasons["weights_over_training"]
    assert "no training logged the hardest samples" in reasons["hardest_samples"]
    assert (reasons["remainder_and_utility"], reasons["probability_by_sample"]) == ("", "")


def test_evaluations_alone_without_utility_or_samples_have_no_pictures(workspace: Workspace) -> None:
    path = workspace.folder / "e"
    path.mkdir(parents=True)
    (path / "LMEval_SUMMARY.json").write_text('{"mmlu/acc": 0.4}')
    assert [picture.figure for picture in plots.draw(compare([str(path)], Options()))] == [None] * len(ALL)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12), st.sampled_from([1, -1]))
def test_the_pareto_front_is_what_nothing_beats(points: Sequence[tuple[int, int]], upwards: int) -> None:
    front = tradeoff.pareto(points, (1, upwards))

    def beaten(b: tuple[int, int]) -> bool:
        return any(a[0] >= b[0] and upwards * a[1] >= upwards * b[1] and a != b for a in points)

    assert set(front) == {point for point in points if not beaten(point)}
    # From left to right it never gets better in the other coordinate.
    assert all(upwards * b[1] <= upwards * a[1] for a, b in itertools.pairwise(front))


def test_a_sample_keeps_its_line_from_epoch_to_epoch(found: Comparison, finished: Path) -> None:
    import json

    run = found["BalDRO_DV"].runs[1]
    x, values = curves.curves(run, "forget_Q_A_Prob")
    assert list(x) == [0.0, 1.0, 2.0]
    for row, step in zip(values, (0, 5, 10), strict=True):
        path = finished / f"saves/unlearn/BalDRO_DV_1/checkpoint-{step}/evals/TOFU_EVAL.json"
        entries = json.loads(path.read_text())["forget_Q_A_Prob"]["value_by_index"]
        assert row.tolist() == [entries[str(index)]["prob"] for index in range(40)]


def test_before_is_the_models_own_evaluation_or_step_zero(found: Comparison, finished: Path) -> None:
    whole = distribution.before(found, "forget_Q_A_Prob")
    assert whole is not None
    assert found.before is not None
    assert np.array_equal(whole, found.before.samples["forget_Q_A_Prob"].values)
    runs = compare([str(finished / "saves/unlearn")], Options())
    assert runs.before is None
    step_zero = distribution.before(runs, "forget_Q_A_Prob")
    assert step_zero is not None
    assert np.array_equal(step_zero, runs.groups[0].runs[0].checkpoints[0].evaluation.samples["forget_Q_A_Prob"].values)


def test_epochs_hold_what_was_logged_within_them_and_at_their_end() -> None:
    epochs, means = weights.by_epoch(np.array([0.5, 1.0, 1.2, 2.0, 2.0]), np.array([1.0, 3.0, 4.0, 6.0, 8.0]))
    assert epochs.tolist() == [1.0, 2.0]
    assert means.tolist() == [2.0, 6.0]


def test_the_hardest_are_read_in_their_rank(found: Comparison) -> None:
    ranking = weights.ranking(found["BalDRO_DV"].runs[0])
    hardness = np.random.default_rng(0).beta(1.2, 3.0, size=40)
    order = sorted(range(40), key=lambda index: -hardness[index])
    assert ranking == [(1.0, order[:5]), (2.0, order[1:6])]


def test_framework_trainers_have_no_weights_to_draw(found: Comparison) -> None:
    assert len(weights.course(found["NPO"].runs[0], "largest_weight")[0]) == 0


def test_many_methods_have_a_panel_per_forget_loss_on_a_scale_of_its_own(workspace: Workspace) -> None:
    for base, utility in (("GradDiff", 0.1), ("SimNPO", 0.97), ("NPO", 0.8)):
        for step, name in enumerate(("", "BalDRO_DV_", "BalDRO_G_")):
            settings = {"base": base} if name else {}
            aggregates = {"model_utility": utility + 0.01 * step}
            workspace.run(f"{name}{base}", f"{name}{base}", aggregates=aggregates, **settings)
    figure = tradeoff.remainder(compare([str(workspace.folder / "saves/unlearn")], Options()))
    assert isinstance(figure, Figure)
    assert {axes.get_title() for axes in figure.axes} == {"GradDiff", "SimNPO", "NPO"}
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert high - low < 0.05, "the methods of one loss fill its panel"
    assert next(text.get_text() for text in figure.legends[0].get_texts()) == "without BalDRO"


def test_a_variant_looks_the_same_in_every_panel_and_the_legend_has_all(workspace: Workspace) -> None:
    variants = {
        "NPO": ("", "BalDRO_DV_", "BalDRO_DV_release_", "BalDRO_G_"),
        "GradDiff": ("", "BalDRO_G_"),
        "DPO": ("",),
        "SimNPO": ("", "BalDRO_G_late_"),
    }
    for base, names in variants.items():
        for name in names:
            workspace.run(f"{name}{base}", f"{name}{base}", **({"base": base} if name else {}))
    found = compare([str(workspace.folder / "saves/unlearn")], Options())
    shown = [entry for panel in arranged(found, found.groups) for entry in panel.methods]
    looks = {label: {look for _, other, look in shown if other == label} for _, label, _ in shown}
    assert all(len(of_one) == 1 for of_one in looks.values())
    assert len({look for of_one in looks.values() for look in of_one}) == len(looks)
    for draw in (tradeoff.remainder, distribution.probability):
        figure = draw(found)
        assert isinstance(figure, Figure)
        assert set(looks) <= {text.get_text() for text in figure.legends[0].get_texts()}


def test_panels_of_one_axis_show_all_values_and_their_text(workspace: Workspace) -> None:
    """Nine methods, a panel per forget loss: one has forgotten all, one nothing."""
    for base, values in (("GradDiff", [1e-9, 1e-7]), ("SimNPO", [0.5, 0.9]), ("NPO", [0.1, 0.3])):
        workspace.run(base, base, probabilities=values)
        for name in ("BalDRO_DV", "BalDRO_G"):
            workspace.run(f"{name}_{base}", f"{name}_{base}", probabilities=values, base=base)
    figure = distribution.probability(compare([str(workspace.folder / "saves/unlearn")], Options()))
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 3
    assert all(axes.get_xlim()[0] == 0 and axes.get_xlim()[1] > 0.9 for axes in figure.axes)
    figure.draw_without_rendering()
    label = next(text for text in figure.findobj(Text) if text.get_text() == "probability of the forget answer")
    box = label.get_window_extent()
    assert box.x1 <= figure.bbox.width
    assert not any(box.overlaps(text.get_window_extent()) for text in figure.legends[0].get_texts())


@pytest.mark.parametrize("count", [3, 12])
def test_methods_are_told_apart_however_many(workspace: Workspace, count: int) -> None:
    for number in range(count):
        base = f"B{number % 3}"
        workspace.run(
            f"m{number}", base if number < 3 else f"BalDRO_{number}", **({} if number < 3 else {"base": base})
        )
    found = compare([str(workspace.folder / "saves/unlearn")], Options())
    looks = plots.style.looks(found)
    assert len({(look.colour, look.marker) for look in looks.values()}) == count
    assert all(picture.figure is not None for picture in plots.draw(found) if picture.name == "probability_by_sample")
