"""The comparison as text, for people and for programs."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from baldro_ext.errors import BaldroError, RefusedError
from baldro_ext.tools.compare import Comparison, compare, results, save
from baldro_ext.tools.compare.export import latex, markdown
from baldro_ext.tools.compare.formatting import mean_and_spread, notes, number, oriented, text
from tests.compare.folders import Workspace


@pytest.fixture(scope="module")
def comparison(finished: Path) -> Comparison:
    return compare([finished])


def small(workspace: Workspace, **options: Any) -> Comparison:
    """Two methods with two seeds, four samples, and easy numbers."""
    for seed, shift in ((0, 0.0), (1, 0.1)):
        workspace.run(f"npo{seed}", "NPO", seed, [0.1, 0.2, 0.3, 0.6 + shift], {"model_utility": 0.8})
        workspace.run(f"dv{seed}", "BalDRO_DV", seed, [0.1, 0.2, 0.3, 0.4 + shift], {"model_utility": 0.7})
    return compare([workspace.unlearn], **options)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.12345, "0.123"),
        (0.99996, "1.00"),
        (-103.4, "-103"),
        (999.6, "1000"),
        (-999.4, "-999"),
        (12345.6, "12346"),
        (999_999.7, "1.00e+06"),
        (1e-112, "1.00e-112"),
        (0.0, "0"),
        (None, "-"),
        (math.nan, "-"),
        (-math.inf, "< -323"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, written: str) -> None:
    assert number(value) == written


@pytest.mark.parametrize(
    ("mean", "sd", "n", "runs", "written"),
    [
        (0.1119, 0.00812, 3, 3, "0.112 ± 0.008"),
        (0.355, 0.00009, 3, 3, "0.355 ± 9e-05"),
        (0.5, 0.0, 2, 2, "0.500 ± 0"),
        (1e-30, 2e-31, 2, 2, "1.00e-30 ± 2.00e-31"),
        (0.5, math.nan, 1, 3, "0.500 (1 of 3)"),
        (math.nan, math.nan, 0, 3, "-"),
    ],
)
def test_a_deviation_has_the_decimals_of_its_mean(mean: float, sd: float, n: int, runs: int, written: str) -> None:
    assert mean_and_spread(mean, (sd,), n, runs) == written


def test_the_table_shows_mean_deviation_and_mark(workspace: Workspace) -> None:
    metrics = ["forget_Q_A_Prob.worst", "model_utility", "forget_quality"]
    assert oriented(results(small(workspace, metrics=metrics))).T.to_dict("list") == {
        "seeds": ["2", "2"],
        "forget_Q_A_Prob worst 10% ↓": ["0.650 ± 0.071", "0.450 ± 0.071 better"],
        "model_utility ↑": ["0.800 ± 0", "0.700 ± 0 worse"],
        "log10 forget_quality ↑": ["-3.00 ± 0", "-3.00 ± 0"],
    }


def test_a_table_of_many_methods_has_a_line_each(workspace: Workspace) -> None:
    for n in range(8):
        workspace.run(f"m{n}", f"M{n}")
    table = oriented(results(compare([workspace.unlearn]), ["model_utility"]))
    assert list(table) == ["seeds", "model_utility ↑"]
    assert list(table.index) == [f"M{n}" for n in range(8)]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_table_is_no_wider_than_the_terminal_and_loses_nothing(comparison: Comparison, width: int) -> None:
    table, _, _ = text(comparison, width).rpartition("\n\n")
    assert max(map(len, table.splitlines())) <= width
    whole = results(comparison)
    for cell in (*whole.index, *whole.columns, *whole.to_numpy().flatten()):
        assert set(cell.split()) <= set(table.split())


def test_few_seeds_are_called_few(comparison: Comparison, workspace: Workspace) -> None:
    told = "\n".join(notes(comparison))
    assert "3 seeds agree by chance alone in 25% of cases" in told
    workspace.run("a")
    assert "One seed per method" in notes(compare([workspace.unlearn]))[0]


def test_mixed_runs_are_called_so_in_every_output(workspace: Workspace) -> None:
    workspace.run("a", "NPO")
    workspace.run("b", "BalDRO_DV", model="models/other")
    mixed = compare([workspace.unlearn], allow_mixed=True)
    for written in (text(mixed), markdown(mixed), latex(mixed)):
        assert "MIXED RUNS" in written
        assert "models/target in unlearn/a; models/other in unlearn/b" in written


def test_latex_is_a_booktabs_table_with_names_in_words(comparison: Comparison) -> None:
    table = "\n".join(line for line in latex(comparison).splitlines() if not line.startswith("%"))
    assert [table.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 1, 1]
    assert table.isascii()
    assert "probability of the forget answer, worst 10\\% $\\downarrow$" in table
    assert "BalDRO-DV" in table


def test_the_best_shown_value_is_bold_unless_all_are(workspace: Workspace) -> None:
    table = latex(small(workspace, metrics=["forget_Q_A_Prob.worst", "model_utility", "forget_quality"]))
    assert re.findall(r"textbf\{([^ ]*)", table) == ["0.450", "0.800"]


def test_seeds_on_both_sides_of_zero_are_not_the_nearest_to_it(workspace: Workspace) -> None:
    for trainer, leaks in (("NPO", (90.0, -90.0)), ("BalDRO_DV", (20.0, 10.0))):
        for seed, leak in enumerate(leaks):
            workspace.run(f"{trainer}{seed}", trainer, seed, aggregates={"privleak": leak})
    assert re.findall(r"textbf\{([^ ]*)", latex(compare([workspace.unlearn], metrics=["privleak"]))) == ["15.0"]


def test_names_from_outside_have_no_meaning_in_markdown_and_spreadsheets(workspace: Workspace, tmp_path: Path) -> None:
    names = ["x|y", "<img src=x>", "![x](http://x)", "=1+1", "@x", "-x", "\\|"]
    for n, name in enumerate(names):
        workspace.run(f"r{n}", name)
    save(compare([workspace.unlearn]), tmp_path / "out")
    written = (tmp_path / "out/comparison.md").read_text()
    assert len({re.sub(r"\\.", "", line).count("|") for line in written.split("\n\n")[0].splitlines()}) == 1
    assert not re.search(r"(?<!\\)(<img|!\[x)", written)
    methods = {row["method"] for row in csv.DictReader((tmp_path / "out/comparison.csv").read_text().splitlines())}
    assert {"'=1+1", "'@x", "'-x", "x|y"} <= methods


PUBLISHED = "method,metric,value,source\nNPO,model_utility,0.6,arXiv:1\nNPO,model_utility,0.7,arXiv:1\nNPO,other,1,\n"


def test_published_numbers_are_marked_and_neither_tested_nor_best(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "published.csv"
    file.write_text(PUBLISHED.replace("0.7", "0.99"))
    comparison = small(workspace, metrics=["model_utility"], published=file)
    table = results(comparison)
    assert table.loc["NPO (published)"].tolist() == ["-", "0.795 ± 0.276"]
    assert comparison.summary.index.get_level_values("method").tolist() == ["NPO", "BalDRO_DV"]
    for written in (text(comparison), markdown(comparison), latex(comparison)):
        assert "NPO (published)" in written
        assert "numbers of others from arXiv:1" in written
        assert "not shown here: other" in written
    assert re.findall(r"textbf\{([^ ]*)", latex(comparison)) == ["0.800"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("method,value\nNPO,1\n", "no column metric"),
        ("method,metric,value\nNPO,model_utility,1\nNPO,model_utility,high\n", "line 3"),
        ("method,metric,value\n,model_utility,1\n", "line 2"),
        ("method,metric,value\nNPO,model_utility,nan\n", "line 2"),
        ("", "cannot read"),
        (None, "cannot read"),
    ],
)
def test_a_file_of_published_numbers_that_is_none_is_named(
    workspace: Workspace, tmp_path: Path, content: str | None, told: str
) -> None:
    workspace.run("a")
    file = tmp_path / "published.csv"
    if content is not None:
        file.write_text(content)
    with pytest.raises(BaldroError, match=told) as error:
        compare([workspace.unlearn], published=file)
    assert str(file) in str(error.value)


def test_csv_has_every_value_in_full(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a", "NPO", 5, [0.1, 1 / 3], {"forget_quality": 1e-60})
    workspace.run("b", "BalDRO_DV", 5, [0.1, 0.2], {"forget_quality": 0.0})
    save(compare([workspace.unlearn]), tmp_path / "out")
    rows = csv.DictReader((tmp_path / "out/comparison.csv").read_text().splitlines())
    values = {(row["method"], row["metric"]): float(row["value"]) for row in rows}
    assert (values["NPO", "forget_Q_A_Prob.largest"], values["NPO", "forget_quality"]) == (1 / 3, 1e-60)
    summary = pd.read_csv(tmp_path / "out/summary.csv").set_index(["metric", "method"])
    ours = summary.loc[("forget_Q_A_Prob.largest", "BalDRO_DV")]
    assert (ours["mean"], ours["baseline"], ours["pairs"], ours["gain"]) == (0.2, "NPO", 1, pytest.approx(1 / 3 - 0.2))
    assert summary.loc[("forget_quality", "BalDRO_DV"), "mean"] == -math.inf
    assert "nan" not in (tmp_path / "out/summary.csv").read_text()


def test_an_earlier_comparison_is_replaced_and_nothing_else(workspace: Workspace, tmp_path: Path) -> None:
    comparison = small(workspace)
    save(comparison, tmp_path)
    save(small(workspace, metrics=["model_utility"]), tmp_path)
    assert "forget_Q_A_Prob" not in (tmp_path / "comparison.tex").read_text()
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(RefusedError, match=r"report.html"):
        save(comparison, tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_nothing_of_an_earlier_comparison_is_left_but_what_was_edited(workspace: Workspace, tmp_path: Path) -> None:
    small(workspace)
    save(compare([workspace.unlearn], levels=()), tmp_path / "out")
    (tmp_path / "out/levels.csv").write_text("mine")
    assert (tmp_path / "out/fronts.png").exists()
    save(compare([workspace.unlearn]), tmp_path / "out")
    save(compare([workspace.unlearn]), tmp_path / "new")
    left, new = ({it.name for it in (tmp_path / name).iterdir()} for name in ("out", "new"))
    assert left == new | {"levels.csv"}
