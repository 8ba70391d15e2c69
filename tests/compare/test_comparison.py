"""What may be compared, and the numbers of a comparison."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from omegaconf import OmegaConf

from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.compare import Comparison, compare, results
from baldro_ext.tools.compare.export import latex, markdown
from baldro_ext.tools.compare.formatting import text
from tests.compare.folders import Workspace, write, write_evaluation


def of(workspace: Workspace, **options: Any) -> Comparison:
    return compare([workspace.unlearn], **options)


def one_sample_runs(workspace: Workspace, values: dict[str, list[float]]) -> None:
    """Runs whose only sample has these values, seed by seed."""
    for trainer, by_seed in values.items():
        for seed, value in enumerate(by_seed):
            workspace.run(f"{trainer}{seed}", trainer, seed, [value])


def row(comparison: Comparison, label: str, key: str = "forget_Q_A_Prob") -> pd.Series:
    return comparison.summary.loc[(key, label)]


def test_relearned_models_are_compared_with_relearned_ones_of_their_learning_rate(workspace: Workspace) -> None:
    for trainer, rate in (("NPO", 1e-4), ("NPO", 2e-4), ("BalDRO_DV", 2e-4)):
        label = f"{trainer}_lr{rate}"
        evaluated = workspace.run(label, trainer, learning_rate=rate)
        write(evaluated / "study.json", {"label": label, "trainer": trainer})
        write(workspace.relearn(label) / "study.json", {"label": f"{label}_relearned", "trainer": trainer})
    comparison = of(workspace)
    robust = {it.label: row(comparison, it.label)["baseline"] for it in comparison.methods if it.is_robust}
    assert robust == {
        "BalDRO_DV_lr0.0002": "NPO_lr0.0002",
        "BalDRO_DV_lr0.0002_relearned": "NPO_lr0.0002_relearned",
    }
    assert {run.learning_rate for run in comparison.runs} == {1e-4, 2e-4}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": "models/other"}, "model before unlearning: models/target in unlearn/a; models/other in unlearn/b"),
        ({"split": "forget05"}, "forget split: forget10 in unlearn/a; forget05 in unlearn/b"),
        ({"probabilities": [0.1, 0.2]}, "samples of forget_Q_A_Prob: 4 (0 to 3) in unlearn/a; 2 (0 to 1) in unlearn/b"),
    ],
)
def test_runs_that_differ_are_refused(workspace: Workspace, change: dict[str, Any], told: str) -> None:
    workspace.run("a", "NPO")
    workspace.run("b", "BalDRO_DV", **change)
    with pytest.raises(RefusedError) as error:
        of(workspace)
    assert told in str(error.value)
    assert "--allow-mixed" in str(error.value)
    assert told in of(workspace, allow_mixed=True).warnings[0]


@pytest.mark.parametrize(
    ("logs", "told"), [(None, "; none in"), ("saves/eval/other/TOFU_EVAL.json", "TOFU_EVAL.json of other")]
)
def test_retain_logs_are_compared_by_content(workspace: Workspace, logs: str | None, told: str) -> None:
    workspace.run("a", "NPO")
    path = workspace.run("b", "BalDRO_DV")
    write_evaluation(workspace.folder / "saves/eval/other", {"forget_Q_A_Prob": [0.3]})
    workspace.record_evaluation(path, "saves/unlearn/b", retain_logs=logs)
    with pytest.raises(RefusedError, match="retain logs") as error:
        of(workspace)
    assert told in str(error.value)


def test_other_tasks_of_lm_eval_are_refused(workspace: Workspace) -> None:
    for task, trainer, limit in (("a", "NPO", "mmlu"), ("b", "BalDRO_DV", "arc_easy")):
        write(workspace.run(task, trainer) / "study.json", {"label": trainer, "lm_eval": [limit]})
    with pytest.raises(RefusedError, match=r"lm-eval tasks: \['mmlu'\] in unlearn/a; \['arc_easy'\] in unlearn/b"):
        of(workspace)


def test_seeds_with_other_settings_are_refused(workspace: Workspace) -> None:
    for seed, gamma in ((0, 1.0), (1, 0.5)):
        write(workspace.run(f"npo{seed}", "NPO", seed, gamma=gamma) / "study.json", {"label": "NPO"})
    with pytest.raises(RefusedError, match=r"trainer.method_args.gamma within NPO: 1 in unlearn/npo0; 0.5 in"):
        of(workspace)


def test_copies_of_one_working_folder_can_be_compared(tmp_path: Path) -> None:
    for name, trainer in (("here", "NPO"), ("there", "BalDRO_DV")):
        Workspace(tmp_path / name).run("mine", trainer)
    comparison = compare([tmp_path])
    assert [method.label for method in comparison.methods] == ["NPO", "BalDRO_DV"]


def test_other_versions_are_compared_and_told(workspace: Workspace) -> None:
    for task, trainer, version in (("a", "NPO", "4.45.1"), ("b", "BalDRO_DV", "4.51.3")):
        write(workspace.run(task, trainer) / "study.json", {"label": trainer, "versions": {"transformers": version}})
    (note,) = of(workspace).notes
    assert "transformers: 4.45.1 in unlearn/a; 4.51.3 in unlearn/b" in note


@pytest.mark.parametrize(
    ("version", "others", "told"),
    [
        ("4.51.3", "BalDRO_DV", "NPO multiplies"),
        (None, "BalDRO_DV", "NPO may multiply"),
        ("4.45.1", "BalDRO_DV", ""),
        ("4.51.3", "SimNPO", ""),
    ],
)
def test_a_baseline_that_grows_with_the_accumulation_steps_is_called_unfair(
    workspace: Workspace, version: str | None, others: str, told: str
) -> None:
    for trainer in ("NPO", others):
        workspace.run(trainer, trainer)
        if version:  # as save_pretrained writes it
            write(workspace.unlearn / trainer / "config.json", {"transformers_version": version})
    comparison = of(workspace)
    assert [told in line and "unlearn/NPO" in line for line in comparison.warnings] == [True] * bool(told)
    for written in (text(comparison), markdown(comparison), latex(comparison)):
        assert ("UNFAIR" in written) == bool(told)


def test_a_baseline_that_averages_over_the_accumulation_steps_is_fair(workspace: Workspace) -> None:
    for trainer in ("NPO", "BalDRO_DV"):
        workspace.run(trainer, trainer)
        write(workspace.unlearn / trainer / "config.json", {"transformers_version": "4.51.3"})
    record = workspace.unlearn / "NPO/.hydra/config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(record), {"trainer": {"accumulation": "averaged"}}), record)
    assert not of(workspace).warnings


@pytest.mark.parametrize(
    ("ours", "mark"),
    [
        ([0.1, 0.2, 0.1], "better"),
        ([0.1, 0.2, 0.8], "(better)"),
        ([0.9, 0.9, 0.9], "worse"),
        ([0.9, 0.9, 0.4], "(worse)"),
        ([0.1], "(better)"),
        ([0.5, 0.5, 0.5], ""),
    ],
)
def test_a_full_mark_needs_each_of_several_seeds(workspace: Workspace, ours: list[float], mark: str) -> None:
    one_sample_runs(workspace, {"NPO": [0.5, 0.5, 0.5], "BalDRO_DV": ours})
    comparison = of(workspace)
    assert (row(comparison, "BalDRO_DV")["mark"], row(comparison, "NPO")["mark"]) == (mark, "")


def test_a_difference_below_the_shown_digits_has_no_mark(workspace: Workspace) -> None:
    one_sample_runs(workspace, {"NPO": [0.5], "BalDRO_DV": [0.50001], "BalDRO_G": [0.51]})
    table = results(of(workspace), ["forget_Q_A_Prob"])["forget_Q_A_Prob ↓"]
    assert table.to_dict() == {"NPO": "0.500", "BalDRO_DV": "0.500", "BalDRO_G": "0.510 (worse)"}


def test_common_seeds_are_paired_and_others_only_averaged(workspace: Workspace) -> None:
    one_sample_runs(workspace, {"NPO": [0.5, 0.6], "BalDRO_DV": [0.4, 0.4, 0.1]})
    ours = row(of(workspace), "BalDRO_DV")
    assert (ours["mean"], ours["n"]) == (pytest.approx(0.3), 3)
    assert (ours["pairs"], ours["gain"]) == (2, pytest.approx(0.15))
    assert ours["sd"] == pytest.approx(math.sqrt(0.03))


def test_runs_of_unknown_seeds_are_not_paired(workspace: Workspace) -> None:
    for name in ("a", "b"):
        write_evaluation(workspace.folder / name, {"forget_Q_A_Prob": [0.1]})
    assert row(compare([workspace.folder], baseline="a"), "b")["pairs"] == 0


def test_the_table_has_a_row_per_run_and_metric(workspace: Workspace) -> None:
    workspace.run("b", "BalDRO_DV", 5, [0.1, 1 / 3], {"model_utility": None})
    workspace.run("a", "NPO", 5, [0.1, 0.7])
    table = of(workspace).values
    assert list(table) == ["method", "seed", "run", "metric", "value"]
    largest = table[table["metric"] == "forget_Q_A_Prob.largest"]
    assert largest[["method", "seed", "value"]].values.tolist() == [["NPO", 5, 0.7], ["BalDRO_DV", 5, 1 / 3]]
    assert table.loc[table["metric"] == "model_utility", "method"].tolist() == ["NPO"]


def test_the_baseline_is_npo_unless_told_otherwise(workspace: Workspace) -> None:
    one_sample_runs(workspace, {"BalDRO_DV": [0.1], "SimNPO": [0.2], "NPO": [0.3]})
    assert of(workspace).baselines == {"BalDRO_DV": "NPO", "SimNPO": "NPO"}
    assert of(workspace, baseline="SimNPO").baselines == {"BalDRO_DV": "SimNPO", "NPO": "SimNPO"}
    with pytest.raises(UsageError, match="did you mean SimNPO"):
        of(workspace, baseline="SimNPo1")


def test_each_method_can_be_compared_with_its_own_base(workspace: Workspace) -> None:
    for trainer, base in (("BalDRO_DV", "NPO"), ("BalDRO_DV_SimNPO", "SimNPO"), ("BalDRO_G_SatImp", "SatImp")):
        workspace.run(trainer, trainer, probabilities=[0.2], base=base)
    one_sample_runs(workspace, {"NPO": [0.3], "SimNPO": [0.3]})
    comparison = of(workspace, baseline="base")
    assert comparison.baselines == {"BalDRO_DV": "NPO", "BalDRO_DV_SimNPO": "SimNPO"}
    assert "BalDRO_G_SatImp" in comparison.notes[0]
    assert [method.label for method in comparison.methods][:2] == ["NPO", "BalDRO_DV"]


def test_a_missing_value_stays_missing_and_its_run_is_named(workspace: Workspace) -> None:
    one_sample_runs(workspace, {"NPO": [0.5, 0.5], "BalDRO_DV": [0.4, 0.4]})
    workspace.run("BalDRO_DV1", "BalDRO_DV", 1, [0.4], {"model_utility": None, "forget_quality": float("nan")})
    comparison = of(workspace)
    ours = row(comparison, "BalDRO_DV", "model_utility")
    assert (ours["n"], ours["pairs"]) == (1, 1)
    for key in ("forget_quality", "model_utility"):
        assert f"no {key}, because not evaluated or null, for unlearn/BalDRO_DV1" in comparison.notes


def test_a_p_value_of_zero_bounds_the_mean_and_has_no_spread(workspace: Workspace) -> None:
    for seed, quality in enumerate((1e-3, 0.0)):
        workspace.run(f"a{seed}", "NPO", seed, aggregates={"forget_quality": quality})
    ours = row(of(workspace), "NPO", "forget_quality")
    assert (ours["mean"], ours["n"]) == (-math.inf, 2)
    assert math.isnan(ours["sd"])


def test_an_unknown_metric_is_answered_with_the_closest(workspace: Workspace) -> None:
    workspace.run("a")
    with pytest.raises(UsageError, match=r"'forget_Q_A_prob' .*did you mean forget_Q_A_Prob"):
        of(workspace, metrics=["forget_Q_A_prob"])


def test_the_worst_share_decides_how_many_samples_are_worst(workspace: Workspace) -> None:
    workspace.run("a", probabilities=[0.1, 0.2, 0.3, 0.8])
    for share, worst in ((0.1, 0.8), (0.5, 0.55), (1.0, 0.35)):
        comparison = of(workspace, worst_share=share)
        assert row(comparison, "NPO", "forget_Q_A_Prob.worst")["mean"] == pytest.approx(worst)
    with pytest.raises(UsageError, match="--worst-share 0 "):
        of(workspace, worst_share=0)


def test_the_worst_samples_of_a_utility_are_the_smallest(workspace: Workspace) -> None:
    write_evaluation(workspace.folder / "a", {"retain_Q_A_Prob": [0.9, 0.2, 0.7]})
    comparison = compare([workspace.folder], metrics=["retain_Q_A_Prob.worst"])
    assert row(comparison, "a", "retain_Q_A_Prob.worst")["mean"] == 0.2


def test_muse_has_its_own_columns(workspace: Workspace) -> None:
    path = write_evaluation(
        workspace.folder / "saves/eval/muse",
        {"forget_verbmem_ROUGE": [0.2, 0.6]},
        {"retain_knowmem_ROUGE": 0.5, "privleak": -3.0},
        benchmark="MUSE",
    )
    assert [it.key for it in compare([path]).metrics] == [
        "forget_verbmem_ROUGE", "forget_verbmem_ROUGE.worst", "privleak", "retain_knowmem_ROUGE",
    ]  # fmt: skip


def test_runs_without_any_evaluation_say_what_to_do(workspace: Workspace) -> None:
    workspace.training("mine")
    with pytest.raises(UsageError, match=r"src/eval.py"):
        of(workspace)
