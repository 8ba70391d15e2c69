"""The pictures: what they draw, and why they sometimes do not."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from baldro_ext.tools.compare import Comparison, compare, plots
from baldro_ext.tools.compare.report import draw
from tests.compare.folders import STEPS_PER_EPOCH, Workspace, study

NAMES = ["trade_off", "distribution", "curves"]


@pytest.fixture(scope="module")
def comparison(finished: Path) -> Comparison:
    return compare([finished])


def test_a_whole_study_has_every_picture(comparison: Comparison) -> None:
    pictures = draw(comparison)
    assert [picture.name for picture in pictures] == NAMES
    assert all(set(picture.files) == {"png", "pdf"} and picture.caption for picture in pictures)


@pytest.mark.parametrize(
    "trainers", [("NPO", "BalDRO_DV"), ("SimNPO", "BalDRO_DV_GradDiff_radius", "BalDRO_G_with_a_long_suffix=0.25")]
)
def test_no_text_leaves_its_picture(tmp_path: Path, trainers: tuple[str, ...]) -> None:
    study(tmp_path, trainers, seeds=(0, 1))
    comparison = compare([tmp_path])
    for figure in (plots.trade_off(comparison), plots.distribution(comparison), plots.curves(comparison)):
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        ticks = {tick for axes in figure.axes for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())}
        # Tick labels beyond the ends of an axis exist, but are not drawn.
        for words in filter(lambda it: it.get_text(), set(figure.findobj(Text)) - ticks):
            box = words.get_window_extent()
            assert box.x0 >= -1, words
            assert box.x1 <= width + 1, words
            assert box.y1 <= height + 1, words


def test_a_picture_without_data_says_what_is_missing(workspace: Workspace) -> None:
    workspace.run("a", aggregates={"model_utility": None})
    missing = {picture.name: picture.missing for picture in draw(compare([workspace.unlearn]))}
    assert "model_utility" in missing["trade_off"]
    assert missing["distribution"] == ""
    assert "eval_strategy=epoch" in missing["curves"]


def test_general_abilities_alone_have_no_pictures(workspace: Workspace) -> None:
    path = workspace.folder / "e"
    path.mkdir(parents=True)
    (path / "LMEval_SUMMARY.json").write_text('{"mmlu/acc": 0.4}')
    assert all(picture.missing and not picture.files for picture in draw(compare([path])))


def test_the_trade_off_shows_seeds_means_and_the_baseline(comparison: Comparison) -> None:
    (axes,) = plots.trade_off(comparison).axes
    means = {
        it.get_label(): it.get_xydata()[0].tolist() for it in axes.lines if not str(it.get_label()).startswith("_")
    }
    for label in ("NPO", "BalDRO_DV"):
        expected = [comparison.summary.loc[(key, label), "mean"] for key in ("model_utility", "forget_Q_A_Prob.worst")]
        assert means[label] == pytest.approx(expected)
    assert sorted(len(it.get_xydata()) for it in axes.lines) == [1, 1, 2, 2, 3, 3]
    crossing = [it.get_xydata()[0].tolist() for it in axes.lines if it.get_linestyle() == ":"]
    assert (crossing[0][0], crossing[1][1]) == pytest.approx(means["NPO"])


def test_the_distribution_has_all_samples_and_the_model_before(comparison: Comparison, finished: Path) -> None:
    (axes,) = plots.distribution(comparison).axes
    lines = {it.get_label(): it for it in axes.lines}
    assert list(lines) == ["NPO", "BalDRO_DV", "before unlearning", "retain model"]
    pooled = np.concatenate([run.evaluation.samples["forget_Q_A_Prob"] for run in comparison["NPO"].runs])
    assert np.array_equal(np.asarray(lines["NPO"].get_xdata())[:-1], np.sort(pooled))
    without = compare([finished / "saves/unlearn"])
    assert not without.references
    (axes,) = plots.distribution(without).axes
    from_step_zero = next(it for it in axes.lines if it.get_label() == "before unlearning")
    assert np.array_equal(from_step_zero.get_xdata(), lines["before unlearning"].get_xdata())


def test_the_curves_are_means_over_seeds(comparison: Comparison, finished: Path) -> None:
    (axes,) = plots.curves(comparison).axes
    ours = next(it for it in axes.lines if it.get_label() == "BalDRO_DV")
    assert list(ours.get_xdata()) == [0.0, 1.0, 2.0]
    worst = []
    for seed in (0, 1, 2):
        folder = finished / f"saves/unlearn/BalDRO_DV_{seed}/checkpoint-{STEPS_PER_EPOCH}/evals"
        entries = json.loads((folder / "TOFU_EVAL.json").read_text())["forget_Q_A_Prob"]["value_by_index"]
        worst.append(np.mean(sorted(row["prob"] for row in entries.values())[-4:]))
    assert np.asarray(ours.get_ydata())[1] == pytest.approx(np.mean(worst))


@pytest.mark.parametrize("count", [3, 14])
def test_methods_are_told_apart_however_many(workspace: Workspace, count: int) -> None:
    for n in range(count):
        workspace.run(f"m{n}", f"BalDRO_{n}", base="NPO")
    figure = plots.trade_off(compare([workspace.unlearn]))
    (axes,) = figure.axes
    figure.draw_without_rendering()
    assert axes.bbox.height > 1.5 * figure.dpi, "the legend leaves room for the picture"
    means = [it for it in axes.lines if not str(it.get_label()).startswith("_")]
    assert len({(it.get_color(), it.get_marker()) for it in means}) == count


def test_too_many_methods_to_tell_apart_are_not_drawn(workspace: Workspace) -> None:
    for n in range(15):
        workspace.run(f"m{n}", f"BalDRO_{n}", base="NPO")
    with pytest.raises(plots.MissingDataError, match="15 methods"):
        plots.trade_off(compare([workspace.unlearn]))
