"""The comparison as text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from baldro_ext.tools.compare import Comparison, Options, compare, tables
from baldro_ext.tools.compare.findings import findings
from tests.compare.folders import Workspace


@pytest.fixture(scope="module")
def found(finished: Path) -> Comparison:
    return compare([str(finished)], Options())


def small(workspace: Workspace, **options: object) -> Comparison:
    """Two methods with two seeds, of four samples; the numbers are easy."""
    for seed, shift in ((0, 0.0), (1, 0.1)):
        workspace.run(f"npo{seed}", "NPO", seed, [0.1, 0.2, 0.3, 0.6 + shift], {"model_utility": 0.8})
        workspace.run(f"dv{seed}", "BalDRO_DV", seed, [0.1, 0.2, 0.3, 0.4 + shift], {"model_utility": 0.7})
    return compare([str(workspace.folder / "saves/unlearn")], Options(**options))  # type: ignore[arg-type]


def test_the_terminal_shows_mean_spread_and_marks(workspace: Workspace) -> None:
    metrics = ("forget_Q_A_Prob.worst", "model_utility", "forget_quality")
    lines = tables.terminal(small(workspace, metrics=metrics)).splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[:5]]
    assert cells == [
        ["NPO", "BalDRO_DV"],
        ["seeds", "2", "2"],
        ["forget_Q_A_Prob worst 10% ↓", "0.650 ± 0.071", "0.450 ± 0.071 ▲"],
        ["model_utility ↑", "0.800 ± 0", "0.700 ± 0 ▼"],
        ["log10 forget_quality ↑", "-3.00 ± 0", "-3.00 ± 0 ="],
    ]


@pytest.mark.parametrize("width", [60, 100, 200])
def test_no_table_is_wider_than_the_terminal_and_none_loses_a_column(found: Comparison, width: int) -> None:
    lines = tables.terminal(found, width).split("\n\n±")[0].splitlines()
    assert max(map(len, lines)) <= width
    head, rows = tables.readable(found)
    words = " ".join(lines).split()
    for cell in (*head, *(cell for row in rows for cell in row)):
        assert set(cell.split()) <= set(words)


def test_what_a_method_gains_and_costs_is_said_first(workspace: Workspace) -> None:
    assert findings(small(workspace)) == [
        "Against NPO, BalDRO_DV lowers what the worst 10% keep (probability of the forget answer) from 0.650 to 0.450 "
        "(better in 2 of 2 seeds), and lowers model utility from 0.800 to 0.700 (worse in 2 of 2 seeds)."
    ]


def test_one_seed_is_no_agreement(workspace: Workspace) -> None:
    workspace.run("npo", "NPO", probabilities=[0.1, 0.6])
    workspace.run("dv", "BalDRO_DV", probabilities=[0.1, 0.4])
    assert findings(compare([str(workspace.folder / "saves/unlearn")], Options())) == [
        "Against NPO in one seed, BalDRO_DV lowers what the worst 10% keep (probability of the forget answer) from 0.600 to "
        "0.400, and leaves model utility at 0.800."
    ]


def test_it_is_said_where_no_method_helps(workspace: Workspace) -> None:
    first = findings(small(workspace, baseline="BalDRO_DV"))[0]
    assert first == "No method improves on its baseline in what the worst 10% keep (probability of the forget answer)."


def test_few_seeds_are_called_few(found: Comparison) -> None:
    text = "\n".join(tables.caveats(found))
    assert "3 seeds agree by chance alone in 25 of 100 cases" in text
    assert "Wilcoxon's test needs 6 seeds" in text


def test_one_seed_is_called_one(workspace: Workspace) -> None:
    workspace.run("a")
    assert tables.caveats(compare([str(workspace.folder)], Options()))[0].startswith("One seed per method")


def test_csv_has_every_value_of_every_run_in_full(workspace: Workspace) -> None:
    workspace.run("b", "BalDRO_DV", 5, [0.1, 1 / 3], {"model_utility": None})
    workspace.run("a", "NPO", 5, [0.1, 0.7])
    rows = list(csv.DictReader(io.StringIO(tables.raw(compare([str(workspace.folder / "saves/unlearn")], Options())))))
    assert [(row["method"], row["seed"], row["model_utility"]) for row in rows] == [
        ("NPO", "5", "0.8"),
        ("BalDRO_DV", "5", ""),
    ]
    assert float(rows[1]["forget_Q_A_Prob.largest"]) == 1 / 3


def test_latex_has_the_rules_of_booktabs_and_no_bare_sign(found: Comparison) -> None:
    lines = [line for line in tables.latex(found).splitlines() if not line.startswith("%")]
    assert [lines[i] for i in (1, 3, -2)] == ["\\toprule", "\\midrule", "\\bottomrule"]
    assert not any(sign in "".join(lines) for sign in "±↓↑→▲▼△▽")
    assert "forget\\_Q\\_A\\_Prob $\\downarrow$" in "".join(lines)
    assert "\\hline" not in lines


def test_markdown_has_a_table_that_every_row_fits(found: Comparison) -> None:
    rows = tables.markdown(found).split("\n\n")[0].splitlines()
    assert len({line.count("|") for line in rows}) == 1
    assert "BalDRO_DV" in rows[0]


def test_many_methods_have_a_line_each(workspace: Workspace) -> None:
    for number in range(8):
        workspace.run(f"m{number}", f"M{number}")
    head, rows = tables.readable(
        compare([str(workspace.folder / "saves/unlearn")], Options(metrics=("model_utility",)))
    )
    assert head == ["method", "seeds", "model_utility ↑"]
    assert [row[0] for row in rows] == [f"M{number}" for number in range(8)]


def test_mixed_runs_are_called_so_in_every_output(workspace: Workspace) -> None:
    workspace.run("a", "NPO")
    workspace.run("b", "BalDRO_DV", model="models/other")
    mixed = compare([str(workspace.folder / "saves/unlearn")], Options(allow_mixed=True))
    told = "model before unlearning: models/target in unlearn/a; models/other in unlearn/b"
    for text in (tables.terminal(mixed), tables.markdown(mixed), tables.latex(mixed)):
        assert "MIXED RUNS" in text
        assert told in text


def test_a_p_value_of_zero_is_shown_as_its_bound(workspace: Workspace) -> None:
    workspace.run("a", aggregates={"forget_quality": 0.0})
    found = compare([str(workspace.folder / "saves/unlearn")], Options(metrics=("forget_quality",)))
    assert tables.results(found)[1][0][2] == "< -323"
