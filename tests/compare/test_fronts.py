"""Methods at equal utility: fronts against brute force, and what a comparison says about them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.cli import app
from baldro_ext.tools.compare import Comparison, compare, plots, results
from baldro_ext.tools.compare.formatting import text
from baldro_ext.tools.compare.fronts import Fronts, cost_at, pareto
from baldro_ext.tools.compare.table import Table
from tests.compare.folders import STEPS_PER_EPOCH, Workspace, grid, write, write_evaluation

Points = list[tuple[float, float]]
NUMBERS = st.floats(0, 1).map(lambda it: round(it, 3))
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12)


def table(points: Points) -> pd.DataFrame:
    return pd.DataFrame(points, columns=["utility", "cost"])


def left_at(level: float, points: Points) -> float:
    return cost_at(level, pareto(table(points)))


def by_pairs(level: float, points: Points) -> float:
    """The value at a level without a front: between the two neighbours among the points that no other beats."""
    unbeaten = [(u, c) for u, c in points if all(c < d or (u, c) == (v, d) for v, d in points if v >= u)]
    above = min((it for it in unbeaten if it[0] >= level), default=None)
    below = max((it for it in unbeaten if it[0] <= level), default=None)
    if above is None:
        return math.nan
    if below is None or above == below:
        return above[1]
    share = (level - below[0]) / (above[0] - below[0])
    return (1 - share) * below[1] + share * above[1]


@given(POINTS, NUMBERS)
def test_the_value_at_a_level_is_that_between_unbeaten_neighbours(points: Points, level: float) -> None:
    assert left_at(level, points) == pytest.approx(by_pairs(level, points), nan_ok=True, abs=1e-12)


@given(POINTS, NUMBERS)
def test_a_point_with_enough_utility_bounds_the_value(points: Points, level: float) -> None:
    enough = [cost for utility, cost in points if utility >= level]
    value = left_at(level, points)
    assert value <= min(enough) + 1e-12 if enough else math.isnan(value)


@given(POINTS)
def test_a_front_rises_and_is_made_of_points(points: Points) -> None:
    front = pareto(table(points))
    assert front.diff().iloc[1:].gt(0).all(axis=None)
    assert set(front.itertuples(index=False, name=None)) <= set(points)


@given(POINTS, st.integers(0), NUMBERS, NUMBERS, NUMBERS)
def test_a_dominated_point_changes_nothing(points: Points, which: int, less: float, more: float, level: float) -> None:
    utility, cost = points[which % len(points)]
    assert left_at(level, [*points, (utility - less, cost + more)]) == pytest.approx(
        left_at(level, points), nan_ok=True, abs=0
    )


@pytest.mark.parametrize(
    ("points", "level", "value"),
    [
        ([(0.5, 0.3)], 0.4, 0.3),  # more utility than needed
        ([(0.5, 0.3)], 0.5, 0.3),
        ([(0.5, 0.3)], 0.51, math.nan),
        ([(0.4, 0.1), (0.6, 0.3)], 0.5, 0.2),
        ([(0.4, 0.1), (0.6, 0.3)], 0.6, 0.3),
        ([(0.4, 0.1), (0.4, 0.2), (0.6, 0.3)], 0.5, 0.2),
        ([(0.4, 0.3), (0.6, 0.3)], 0.5, 0.3),
        ([(0.4, 0.1), (0.5, 0.9), (0.6, 0.3)], 0.5, 0.2),
    ],
)
def test_the_value_of_a_few_points(points: Points, level: float, value: float) -> None:
    assert left_at(level, points) == pytest.approx(value, nan_ok=True)


def measured(workspace: Workspace, trainer: str, rate: float, seed: int, utility: float | None, left: float) -> None:
    values = {"model_utility": utility, "extraction_strength": left}
    workspace.run(f"{trainer}{rate:g}_{seed}", trainer, seed, aggregates=values, learning_rate=rate)


def at_levels(workspace: Workspace, levels: Sequence[float], **options: Any) -> tuple[Table, Fronts]:
    options = {"left": "extraction_strength", **options}
    fronts = compare([workspace.unlearn], levels=levels, **options).fronts
    assert fronts is not None
    return fronts.table, fronts


def cell(comparison: Table, method: str, level: float) -> pd.Series:
    return comparison.summary.loc[(f"extraction_strength at model_utility {level:g}", method)]


def test_methods_are_compared_on_their_fronts_seed_by_seed(workspace: Workspace) -> None:
    for seed in (0, 1):
        for trainer, factor in (("NPO", 1.0), ("BalDRO_DV", 0.5)):
            measured(workspace, trainer, 1e-5, seed, 0.6, factor * (0.4 + 0.1 * seed))
            measured(workspace, trainer, 2e-5, seed, 0.4, factor * 0.2)
    comparison, fronts = at_levels(workspace, [0.5, 0.6, 0.7])
    assert [method.label for method in comparison.methods] == ["NPO", "BalDRO_DV"]
    row = cell(comparison, "NPO", 0.5)
    assert tuple(row[["mean", "low", "high", "n"]]) == pytest.approx((0.325, 0.3, 0.35, 2))
    row = cell(comparison, "BalDRO_DV", 0.5)
    assert (row["baseline"], row["mark"], row["gain"]) == ("NPO", "better", pytest.approx(0.1625))
    assert cell(comparison, "NPO", 0.7)["n"] == 0
    assert at_levels(workspace, [0.7])[0].summary["n"].eq(0).all()
    assert any(note.startswith("0.7 is not reached") and "NPO (seed 0)" in note for note in comparison.notes)
    assert "0.325 [0.300, 0.350]" in results(comparison).to_string()
    assert fronts.points["front"].all()
    assert len(fronts.points) == 8


def test_epochs_count_and_the_model_before_does_not(workspace: Workspace) -> None:
    measured(workspace, "NPO", 1e-5, 0, 0.4, 0.1)
    for epoch, (utility, left) in enumerate([(0.9, 0.9), (0.6, 0.3), (0.3, 0.2)]):
        folder = workspace.unlearn / f"NPO1e-05_0/checkpoint-{epoch * STEPS_PER_EPOCH}/evals"
        write_evaluation(folder, {}, {"model_utility": utility, "extraction_strength": left})
    comparison, fronts = at_levels(workspace, [0.5, 0.8])
    assert cell(comparison, "NPO", 0.5)["mean"] == pytest.approx(0.2)
    assert cell(comparison, "NPO", 0.8)["n"] == 0
    assert dict(zip(fronts.points["epoch"].fillna(-1), fronts.points["front"], strict=True)) == {
        1.0: True, 2.0: False, -1.0: True,
    }  # fmt: skip


def test_what_was_not_measured_is_said(workspace: Workspace) -> None:
    for rate, utility in ((1e-5, 0.6), (2e-5, 0.5), (4e-5, 0.4)):
        measured(workspace, "NPO", rate, 0, utility, utility)
    measured(workspace, "NPO", 1e-5, 1, 0.55, 0.5)
    measured(workspace, "NPO", 2e-5, 1, None, 0.1)
    measured(workspace, "SimNPO", 1e-5, 0, 0.6, 0.6)
    comparison, fronts = at_levels(workspace, [0.42, 0.5, 0.6], baseline="NPO")
    said = "\n".join(comparison.notes)
    assert "0.42 is below all evaluations" in said
    assert (cell(comparison, "NPO", 0.42)["n"], cell(comparison, "SimNPO", 0.42)["n"]) == (2, 1)
    assert (cell(comparison, "SimNPO", 0.42)["pairs"], cell(comparison, "SimNPO", 0.42)["mark"]) == (0, "")
    assert cell(comparison, "SimNPO", 0.6)["pairs"] == 1
    assert "0.6 is not reached, because no evaluation keeps as much utility: NPO (seed 1)" in said
    assert "NPO has other learning rates in other seeds: 1e-5, 2e-5, 4e-5 (seed 0); 1e-5 (seed 1)" in said
    assert "the lowest one tried, so it may be no best: NPO with 1e-5 at 0.42, 0.5, 0.6" in said
    assert "the highest one tried, so it may be no best: NPO with 4e-5 at 0.42" in said
    assert "SimNPO has no second learning rate" in said
    assert "(1 of 2)" in results(comparison).to_string()
    assert len(fronts.points) == 5


def test_a_learning_rate_within_the_grid_is_no_edge(workspace: Workspace) -> None:
    for rate, utility, left in ((1e-5, 0.6, 0.6), (2e-5, 0.5, 0.2), (4e-5, 0.4, 0.3)):
        measured(workspace, "NPO", rate, 0, utility, left)
    comparison, _ = at_levels(workspace, [0.45, 0.5])
    assert not [note for note in comparison.notes if "EDGE" in note]


@pytest.mark.parametrize("label", ["mine_lr{rate:g}", "mine_learning_rate-{rate:g}"])
def test_the_names_that_baldro_run_gives_are_one_method(workspace: Workspace, label: str) -> None:
    for rate in (1e-5, 2e-5):
        measured(workspace, "NPO", rate, 0, 0.5, 0.5)
        overrides = [f"trainer.args.learning_rate={rate}"]
        record = {"label": label.format(rate=rate), "trainer": "NPO", "seed": 0, "overrides": overrides}
        write(workspace.folder / f"saves/eval/NPO{rate:g}_0/study.json", record)
    comparison, fronts = at_levels(workspace, [0.5])
    assert [method.label for method in comparison.methods] == ["mine"]
    assert sorted(fronts.points["learning_rate"]) == [1e-5, 2e-5]
    evaluations = compare([workspace.folder / "saves/eval/NPO*"])  # the trainings may have been deleted
    assert sorted(method.runs[0].learning_rate or 0 for method in evaluations.methods) == [1e-5, 2e-5]


def test_learning_rates_with_other_settings_are_refused(workspace: Workspace) -> None:
    for rate, gamma in ((1e-5, 1.0), (2e-5, 0.5)):
        path = workspace.run(f"a{rate:g}", "NPO", learning_rate=rate, gamma=gamma)
        write(path / "study.json", {"label": f"NPO_lr{rate:g}", "trainer": "NPO", "seed": 0})
    with pytest.raises(RefusedError, match=r"trainer.method_args.gamma within NPO: 1 in unlearn/a1e-05; 0.5 in"):
        at_levels(workspace, [0.5], left="privleak")
    unasked = compare([workspace.unlearn])
    assert unasked.warnings == ()
    assert "--levels auto" in text(unasked)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"left": "nothing"}, "--left 'nothing'"),
        ({"utility": "model_utilty"}, "did you mean model_utility"),
        ({"utility": "forget_Q_A_Prob"}, "--utility forget_Q_A_Prob"),
        ({"left": "unheard_of"}, "--left unheard_of"),
    ],
)
def test_metrics_without_meaning_are_refused(workspace: Workspace, options: dict[str, str], named: str) -> None:
    workspace.run("a", aggregates={"unheard_of": 1.0})
    with pytest.raises(UsageError, match=named):
        compare([workspace.unlearn], levels=(), **options)  # type: ignore[arg-type]


def test_wmdp_is_compared_at_equal_general_knowledge(workspace: Workspace) -> None:
    for trainer, known in (("NPO", 0.4), ("BalDRO_DV", 0.3)):
        path = workspace.run(trainer, trainer)
        for file in path.glob("TOFU_*"):
            file.unlink()
        write(path / "LMEval_SUMMARY.json", {"mmlu/acc": 0.5, "wmdp_cyber/acc": known})
    found = compare([workspace.unlearn], levels=())
    assert found.fronts is not None
    assert (found.fronts.utility.key, found.fronts.left.key) == ("mmlu/acc", "wmdp_cyber/acc")
    assert found.fronts.table.summary["mark"].to_dict()[found.fronts.table.metrics[0].key, "BalDRO_DV"] == "(better)"


def test_without_a_usual_utility_one_has_to_be_named(workspace: Workspace) -> None:
    path = workspace.run("a")
    write_evaluation(path, {"forget_Q_A_Prob": [0.1]}, {"retain_Q_A_Prob": 0.9})
    with pytest.raises(UsageError, match=r"none of model_utility, .* was evaluated: name a metric by --utility, of .*"):
        compare([workspace.unlearn], levels=())
    assert compare([workspace.unlearn], levels=(), utility="retain_Q_A_Prob").fronts is not None


@pytest.mark.parametrize(("left", "expected"), [("forget_quality", -2.0), ("privleak", 10.0)])
def test_more_may_be_better_and_so_may_nearer_to_zero(workspace: Workspace, left: str, expected: float) -> None:
    for rate, utility, quality, leak in ((1e-5, 0.6, 1e-3, -20.0), (2e-5, 0.4, 1e-1, 0.0)):
        values = {"model_utility": utility, "forget_quality": quality, "privleak": leak}
        workspace.run(f"a{rate:g}", "NPO", aggregates=values, learning_rate=rate)
    comparison, _ = at_levels(workspace, [0.5], left=left)
    assert comparison.summary["mean"].iloc[0] == pytest.approx(expected)


@pytest.fixture(scope="module")
def on_a_grid(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two methods with three learning rates and seeds, at levels that are chosen."""
    folder = tmp_path_factory.mktemp("grid")
    return compare([grid(folder).unlearn], levels=(), left="extraction_strength")


def test_chosen_levels_are_reached_by_the_baseline(on_a_grid: Comparison) -> None:
    assert on_a_grid.fronts is not None
    assert len(on_a_grid.fronts.levels) > 2
    assert (on_a_grid.fronts.table.summary.xs("NPO", level="method")["n"] == 3).all()


def test_levels_are_chosen_along_the_fronts_of_all_methods(workspace: Workspace) -> None:
    for rate, utility in ((1e-5, 0.93), (2e-5, 0.71)):
        measured(workspace, "NPO", rate, 0, utility, 0.3 + rate)  # its front is the first of the two
        measured(workspace, "BalDRO_DV", rate, 0, utility - 0.1, utility)
    assert at_levels(workspace, ())[1].levels == (0.75, 0.8, 0.85, 0.9)


def test_levels_that_differ_by_less_than_a_hundredth_are_not_chosen(workspace: Workspace) -> None:
    for rate, utility in ((1e-5, 0.8549), (2e-5, 0.8512)):
        measured(workspace, "NPO", rate, 0, utility, utility)
    assert at_levels(workspace, ())[1].levels == (0.854,)


@pytest.mark.parametrize(("left", "before", "told"), [
    (0.9, 0.98, "0.9 of the 0.98 before"),
    (0.5, 0.98, ""),
    (0.3, 0.35, "0.3 of the 0.35 before"),
    (0.9, None, "0.9 of the 1 that is possible"),
    (0.3, None, ""),
])  # fmt: skip
def test_it_is_said_where_little_was_forgotten(
    workspace: Workspace, left: float, before: float | None, told: str
) -> None:
    for trainer in ("NPO", "BalDRO_DV"):
        measured(workspace, trainer, 1e-5, 0, 0.6, left)
    if before is not None:
        folder = workspace.unlearn / "NPO1e-05_0/checkpoint-0/evals"
        write_evaluation(folder, {}, {"model_utility": 0.6, "extraction_strength": before})
    warnings = at_levels(workspace, [0.6])[0].warnings
    assert [told in line and "higher learning rates" in line for line in warnings] == [True] * bool(told)
    measured(workspace, "NPO", 2e-5, 0, 0.4, 0.01)
    assert ["choose lower levels" in line for line in at_levels(workspace, [0.6])[0].warnings] == [True] * bool(told)


def test_a_single_learning_rate_is_compared_with_the_same_one_of_the_baseline(on_a_grid: Comparison) -> None:
    assert on_a_grid.baselines["BalDRO_DV learning_rate=2e-05"] == "NPO learning_rate=2e-05"
    assert "than NPO with the same learning rate" in text(on_a_grid)


def test_the_picture_has_the_front_of_each_seed(on_a_grid: Comparison) -> None:
    fronts = on_a_grid.fronts
    assert fronts is not None
    (axes,) = plots.fronts(on_a_grid).axes
    drawn = [np.asarray(it.get_xydata()) for it in axes.lines if it.get_linewidth() == 0.7]
    assert len(drawn) == 2 * 3
    own = fronts.points[(fronts.points["method"] == "NPO") & (fronts.points["seed"] == 0) & fronts.points["front"]]
    assert np.array_equal(drawn[0][1:], own.sort_values("utility")[["utility", "left"]])
    assert drawn[0][0, 1] == drawn[0][1, 1], "level down to the lowest utility that was measured"
    mean = next(it for it in axes.lines if it.get_label() == "NPO")
    at = np.interp(fronts.levels, np.asarray(mean.get_xdata()), np.asarray(mean.get_ydata()))
    assert at == pytest.approx(fronts.table.summary.xs("NPO", level="method")["mean"].to_numpy(), rel=0.02)


def test_every_output_has_the_levels(workspace: Workspace, tmp_path: Path) -> None:
    for rate, utility in ((1e-5, 0.6), (2e-5, 0.4)):
        for trainer in ("NPO", "=<b>"):
            measured(workspace, trainer, rate, 0, utility, utility)
    arguments = ["compare", str(workspace.unlearn), "--out", str(tmp_path / "out"), "--left", "extraction_strength"]
    printed = CliRunner().invoke(app, [*arguments, "--levels", "0.5,0.5000001,0.55"])  # as shown, two of them are one
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.index("EDGE") < printed.stdout.index("seeds", printed.stdout.index("EDGE"))
    for name in ("report.html", "comparison.md", "comparison.tex"):
        written = (tmp_path / "out" / name).read_text().replace("<wbr>", "").replace("\\", "")
        assert "0.55" in written, name
        assert "EDGE" in written, name
    levels = pd.read_csv(tmp_path / "out/levels.csv")
    assert levels.loc[levels["method"] == "NPO", "mean"].tolist() == pytest.approx([0.5, 0.55])
    points = pd.read_csv(tmp_path / "out/fronts.csv")
    assert set(points["method"]) == {"NPO", "'=<b>"}
    assert {"seed", "learning_rate", "epoch", "run", "utility", "left", "front"} < set(points)
    assert "<b>" not in (tmp_path / "out/report.html").read_text()
    assert (tmp_path / "out/fronts.pdf").exists()


@pytest.mark.parametrize("levels", ["high", "nan", "0.5,inf"])
def test_levels_are_numbers(workspace: Workspace, levels: str) -> None:
    workspace.run("a")
    assert CliRunner().invoke(app, ["compare", str(workspace.unlearn), "--levels", levels]).exit_code == 2


@pytest.mark.parametrize("baseline", ["", "NPO", "NPO learning_rate=2e-05", "base"])
def test_methods_with_other_learning_rates_are_compared_at_equal_utility(workspace: Workspace, baseline: str) -> None:
    for trainer, rates in (("NPO", (1e-5, 2e-5)), ("BalDRO_DV", (4e-5, 8e-5))):
        for rate in rates:
            values = {"model_utility": 1 - 1e4 * rate, "extraction_strength": 0.5}
            base = {"base": "NPO"} if trainer != "NPO" else {}
            workspace.run(f"{trainer}{rate:g}", trainer, 0, aggregates=values, learning_rate=rate, **base)
    comparison, _ = at_levels(workspace, [0.1, 0.5], baseline=baseline)
    assert comparison.baselines == {"BalDRO_DV": "NPO"}


def test_a_method_without_both_metrics_and_runs_without_a_seed_are_said(workspace: Workspace) -> None:
    for name, values in (
        ("NPO", {"model_utility": 0.5}),
        ("x", {"model_utility": 0.5, "leak@10": 0.2}),
        ("y", {"model_utility": 0.4, "leak@10": 0.1}),
    ):
        write_evaluation(workspace.folder / name, {"forget_Q_A_Prob": [0.1]}, values)
    fronts = compare([workspace.folder], levels=(), left="forget_Q_A_Prob").fronts
    assert fronts is not None
    assert fronts.table.summary["n"].tolist() == [1, 1, 0]
    with pytest.raises(UsageError, match="--left leak@10"):  # nobody knows which direction is better
        compare([workspace.folder], levels=(), left="leak@10")
    for name in ("x", "y"):
        values = {"model_utility": 0.5, "task10/acc": 0.2}
        write_evaluation(workspace.folder / name, {"forget_Q_A_Prob": [0.1]}, values)
    fronts = compare([workspace.folder], levels=(), left="task10/acc").fronts
    assert fronts is not None
    assert fronts.table.metrics[0].key == "task10/acc at model_utility 0.5"
    assert "NPO has no evaluation with both model_utility and task10/acc" in fronts.table.notes
