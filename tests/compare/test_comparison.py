"""What may be put side by side, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from baldro_ext.tools.compare import Comparison, Options, compare
from baldro_ext.tools.compare.errors import MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.findings import findings
from baldro_ext.tools.compare.metrics import metric
from tests.compare.folders import Workspace, write_evaluation


def of(workspace: Workspace, **options: object) -> Comparison:
    return compare([str(workspace.folder / "saves")], Options(**options))  # type: ignore[arg-type]


def two_methods(workspace: Workspace, values: dict[str, list[float]]) -> None:
    """Runs whose single sample has the values, seed by seed."""
    for trainer, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            workspace.run(f"{trainer}{seed}", trainer, seed, [value])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "models/other"}, "model before unlearning: models/target in unlearn/a; models/other in unlearn/b"),
        ({"split": "forget05"}, "forget split: forget10 in unlearn/a; forget05 in unlearn/b"),
        ({"probabilities": [0.1, 0.2]}, "samples of forget_Q_A_Prob: 4 (0 to 3) in unlearn/a; 2 (0 to 1) in unlearn/b"),
    ],
)
def test_runs_that_differ_are_refused_and_the_difference_is_told(
    workspace: Workspace, change: dict[str, str], told: str
) -> None:
    workspace.run("a", "NPO")
    workspace.run("b", "BalDRO_DV", **change)  # type: ignore[arg-type]
    with pytest.raises(MixedRunsError) as error:
        of(workspace)
    assert told in str(error.value)
    assert "--allow-mixed" in str(error.value)
    assert told in [str(difference) for difference in of(workspace, allow_mixed=True).mixed]


@pytest.mark.parametrize(
    ("logs", "told"), [(None, "; none in"), ("saves/eval/other/TOFU_EVAL.json", "TOFU_EVAL.json of other")]
)
def test_retain_logs_are_compared_by_content(workspace: Workspace, logs: str | None, told: str) -> None:
    workspace.run("a", "NPO")
    path = workspace.run("b", "BalDRO_DV")
    write_evaluation(workspace.folder / "saves/eval/other", {"forget_Q_A_Prob": [0.3]})
    workspace.record_evaluation(path, "saves/unlearn/b", retain_logs=logs)
    with pytest.raises(MixedRunsError, match="retain logs") as error:
        compare([str(workspace.folder / "saves/unlearn")], Options())
    assert told in str(error.value)


def test_copies_of_one_working_folder_can_be_compared(tmp_path: Path) -> None:
    for name, trainer in (("here", "NPO"), ("there", "BalDRO_DV")):
        Workspace(tmp_path / name).run("mine", trainer)
    found = compare([str(tmp_path)], Options())
    assert [one.label for one in found.groups] == ["NPO", "BalDRO_DV"]


def test_seeds_with_other_settings_are_no_repetitions(workspace: Workspace) -> None:
    for seed, gamma in ((0, 1.0), (1, 0.5)):
        path = workspace.run(f"npo{seed}", "NPO", seed, gamma=gamma)
        (path / "study.json").write_text('{"label": "NPO"}')
    with pytest.raises(MixedRunsError, match=r"trainer.method_args.gamma within NPO: 1.0 in unlearn/npo0; 0.5 in"):
        of(workspace)


@pytest.mark.parametrize(
    ("ours", "mark"),
    [
        ([0.1, 0.2, 0.1], "▲"),
        ([0.1, 0.2, 0.8], "△"),
        ([0.9, 0.9, 0.9], "▼"),
        ([0.9, 0.9, 0.4], "▽"),
        ([0.1], "△"),
        ([0.5, 0.5, 0.5], "="),
    ],
)
def test_a_full_mark_needs_every_one_of_several_seeds(workspace: Workspace, ours: list[float], mark: str) -> None:
    two_methods(workspace, {"NPO": [0.5, 0.5, 0.5], "BalDRO_DV": ours})
    found = of(workspace)
    column = metric("forget_Q_A_Prob")
    assert found.cell(found["BalDRO_DV"], column).mark == mark
    assert found.cell(found["NPO"], column).mark == ""


def test_seeds_are_paired_and_others_only_averaged(workspace: Workspace) -> None:
    two_methods(workspace, {"NPO": [0.5, 0.6], "BalDRO_DV": [0.4, 0.4, 0.1]})
    found = of(workspace)
    cell = found.cell(found["BalDRO_DV"], metric("forget_Q_A_Prob"))
    assert cell.spread is not None
    assert cell.paired is not None
    assert (cell.spread.mean, cell.spread.n) == (pytest.approx(0.3), 3)
    assert (cell.paired.seeds, cell.paired.gain) == ((0, 1), pytest.approx(0.15))


def test_a_finding_is_of_the_common_seeds_so_that_others_cannot_turn_it_around(workspace: Workspace) -> None:
    two_methods(workspace, {"NPO": [0.5, 0.6, 0.1], "BalDRO_DV": [0.4, 0.4]})
    (first,) = findings(of(workspace, metrics=("forget_Q_A_Prob",)))
    assert "lowers probability of the forget answer from 0.550 to 0.400 (better in 2 of 2 seeds)" in first


def test_the_baseline_is_npo_unless_told_otherwise(workspace: Workspace) -> None:
    two_methods(workspace, {"BalDRO_DV": [0.1], "SimNPO": [0.2], "NPO": [0.3]})
    assert of(workspace).baselines == {"BalDRO_DV": "NPO", "SimNPO": "NPO"}
    assert of(workspace, baseline="SimNPO").baselines == {"BalDRO_DV": "SimNPO", "NPO": "SimNPO"}
    with pytest.raises(NothingToCompareError, match="did you mean SimNPO"):
        of(workspace, baseline="SimNPo1")


def test_each_method_can_be_compared_with_its_own_base(workspace: Workspace) -> None:
    for trainer, base in (("BalDRO_DV", "NPO"), ("BalDRO_DV_SimNPO", "SimNPO"), ("BalDRO_G_SatImp", "SatImp")):
        workspace.run(trainer, trainer, probabilities=[0.2], base=base)
    two_methods(workspace, {"NPO": [0.3], "SimNPO": [0.3]})
    found = of(workspace, baseline="base")
    assert found.baselines == {"BalDRO_DV": "NPO", "BalDRO_DV_SimNPO": "SimNPO"}
    assert "no run of the own base of BalDRO_G_SatImp" in found.notes[0]
    assert [one.label for one in found.groups][:2] == ["NPO", "BalDRO_DV"]


def test_a_missing_value_stays_missing_and_its_run_is_named(workspace: Workspace) -> None:
    two_methods(workspace, {"NPO": [0.5, 0.5], "BalDRO_DV": [0.4, 0.4]})
    workspace.run("BalDRO_DV1", "BalDRO_DV", 1, [0.4], {"model_utility": None, "forget_quality": float("nan")})
    found = of(workspace)
    cell = found.cell(found["BalDRO_DV"], metric("model_utility"))
    assert cell.spread is not None
    assert (cell.spread.n, cell.expected) == (1, 2)
    assert cell.paired is not None
    assert cell.paired.seeds == (0,)
    assert (
        "unlearn/BalDRO_DV1 lacks forget_quality (nan in TOFU_SUMMARY.json), model_utility (null in TOFU_EVAL.json)"
        in found.notes
    )


def test_a_metric_that_nobody_measured_is_refused(workspace: Workspace) -> None:
    workspace.run("a")
    with pytest.raises(NothingToCompareError, match=r"--metric forget_Q_A_prob.*did you mean forget_Q_A_Prob"):
        of(workspace, metrics=("forget_Q_A_prob",))


def test_the_worst_share_decides_how_many_samples_are_worst(workspace: Workspace) -> None:
    workspace.run("a", probabilities=[0.1, 0.2, 0.3, 0.8])
    for share, worst in ((0.1, 0.8), (0.5, 0.55), (1.0, 0.35)):
        found = of(workspace, worst_share=share)
        assert found.value(found["NPO"].runs[0], metric("forget_Q_A_Prob.worst")) == pytest.approx(worst)
    with pytest.raises(NothingToCompareError, match="--worst-share 0 is no share"):
        of(workspace, worst_share=0)


def test_muse_has_its_own_columns(workspace: Workspace) -> None:
    path = write_evaluation(
        workspace.folder / "saves/eval/muse",
        {"forget_verbmem_ROUGE": [0.2, 0.6]},
        {"retain_knowmem_ROUGE": 0.5, "privleak": -3.0},
        benchmark="MUSE",
    )
    found = compare([str(path)], Options())
    assert [column.key for column in found.metrics] == [
        "forget_verbmem_ROUGE", "forget_verbmem_ROUGE.worst", "privleak", "retain_knowmem_ROUGE",
    ]  # fmt: skip
