"""What is read of a run, wherever it is and whatever is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from baldro_ext.tools.compare import compare, places
from baldro_ext.tools.compare.collect import Run, read_run
from baldro_ext.tools.compare.comparison import Options
from baldro_ext.tools.compare.errors import BrokenFileError, MixedRunsError, NothingToCompareError
from baldro_ext.tools.compare.grouping import group
from tests.compare.folders import RETAIN_LOGS, Workspace, write, write_evaluation, write_record


def read(*arguments: Path | str) -> list[Run]:
    return [read_run(place) for place in places.find([str(argument) for argument in arguments])]


def labels(*arguments: Path | str) -> list[str]:
    return [one.label for one in group(read(*arguments))]


def test_everything_is_known_of_a_run_that_the_framework_recorded(workspace: Workspace) -> None:
    workspace.run("mine", "BalDRO_DV", seed=7, probabilities=[0.1, 0.4], base="NPO", dv_beta=2.0)
    (run,) = read(workspace.folder / "saves/unlearn/mine")
    assert (run.trainer, run.base, run.seed, run.name) == ("BalDRO_DV", "NPO", 7, "unlearn/mine")
    assert run.evaluation.aggregates["forget_Q_A_Prob"] == pytest.approx(0.25)
    assert run.evaluation.value("forget_Q_A_Prob.largest", 0.1) == 0.4
    facts = {key: run.facts[key] for key in ("benchmark", "model before unlearning", "forget split", "evaluated split")}
    assert list(facts.values()) == ["TOFU", "models/target", "forget10", "forget10"]
    assert run.facts["retain logs"].startswith("TOFU_EVAL.json of retain90 (sha256 ")
    assert run.commands[0].startswith("python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu")
    assert run.settings["method_args.dv_beta"] == "2.0"
    assert run.gaps == ()


@pytest.mark.parametrize(
    "argument", ["saves", "saves/unlearn/mine", "saves/eval/mine", "saves/*/mine", "saves/unlearn"]
)
def test_a_run_is_found_by_its_training_its_evaluation_and_what_holds_them(workspace: Workspace, argument: str) -> None:
    evaluation = workspace.run("mine")
    found = [place for place in places.find([str(workspace.folder / argument)]) if place.training]
    assert found == [places.Place(workspace.folder / "saves/unlearn/mine", evaluation)]


def test_an_evaluation_of_another_name_is_found_by_the_model_it_noted(workspace: Workspace) -> None:
    evaluation = workspace.run("mine")
    renamed = evaluation.rename(evaluation.with_name("again"))
    (run,) = read(workspace.folder / "saves/unlearn/mine")
    assert run.place.evaluation == renamed


def test_an_evaluation_inside_its_training_is_found(workspace: Workspace) -> None:
    """As by the framework's own scripts: paths.output_dir=saves/unlearn/<task>/evals."""
    evaluation = workspace.run("mine")
    inside = workspace.folder / "saves/unlearn/mine/evals"
    shutil.move(evaluation, inside)
    (run,) = read(workspace.folder / "saves/unlearn")
    assert run.place.evaluation == inside


def test_a_working_folder_may_be_moved(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("mine")
    moved = workspace.folder.rename(tmp_path / "elsewhere")
    run = next(run for run in read(moved / "saves") if run.place.training)
    assert run.place == places.Place(moved / "saves/unlearn/mine", moved / "saves/eval/mine")
    assert "sha256" in run.facts["retain logs"]


def test_without_a_final_evaluation_the_one_at_the_end_of_training_counts(workspace: Workspace) -> None:
    training = workspace.training("mine")
    write_evaluation(training / "checkpoint-5/evals", {"forget_Q_A_Prob": [0.9]})
    write_evaluation(training / "checkpoint-10/evals", {"forget_Q_A_Prob": [0.2]})
    (run,) = read(training)
    assert run.evaluation.aggregates == {"forget_Q_A_Prob": 0.2}
    assert run.source.endswith("checkpoint-10/evals, at the end of training")
    assert [(c.step, c.epoch) for c in run.checkpoints] == [(5, 1.0), (10, 2.0)]


def test_an_earlier_checkpoint_does_not_count_as_the_end(workspace: Workspace) -> None:
    training = workspace.training("mine")
    write_evaluation(training / "checkpoint-5/evals", {"forget_Q_A_Prob": [0.9]})
    (run,) = read(training)
    assert run.evaluation.aggregates == {}
    assert run.gaps == (f"no evaluation of the model in {training}: run src/eval.py on it",)


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_training_that_has_not_finished_says_so(workspace: Workspace, epochs: int) -> None:
    training = workspace.training("mine")
    if epochs:
        write_evaluation(training / "checkpoint-5/evals", {"forget_Q_A_Prob": [0.9]})
    (training / "trainer_state.json").unlink()
    (run,) = read(training)
    assert run.gaps == (f"{training} has no trainer_state.json: its training has not finished",)


def test_runs_of_one_trainer_are_told_apart_by_the_settings_that_differ(workspace: Workspace) -> None:
    for beta in (1.0, 5.0):
        for seed in (0, 1):
            workspace.run(f"{beta}_{seed}", "BalDRO_DV", seed, dv_beta=beta, gamma=1.0)
    workspace.run("npo", "NPO")
    found = group([run for run in read(workspace.folder / "saves") if run.place.training])
    assert {one.label: one.seeds for one in found} == {
        "BalDRO_DV dv_beta=1.0": (0, 1), "BalDRO_DV dv_beta=5.0": (0, 1), "NPO": (0,),
    }  # fmt: skip


def test_a_study_note_names_the_method(workspace: Workspace) -> None:
    path = workspace.run("mine", "BalDRO_DV", seed=1)
    write(path / "study.json", {
        "label": "ours", "trainer": "BalDRO_DV", "seed": 1, "training_seconds": 12.5, "versions": {"torch": "2.13.0"},
        "commands": {"unlearn ours": "python src/train.py", "evaluate ours": "python src/eval.py"},
    })  # fmt: skip
    (run,) = read(path)
    assert (group([run])[0].label, run.seconds, run.versions) == ("ours", 12.5, {"torch": "2.13.0"})
    assert run.commands == ("python src/train.py", "python src/eval.py")


def test_a_run_without_a_note_does_not_pass_for_a_noted_one_with_other_settings(workspace: Workspace) -> None:
    noted, _ = (workspace.run(f"plain_{seed}", "BalDRO_DV", seed, dv_beta=1.0) for seed in (0, 1))
    write(noted / "study.json", {"label": "BalDRO_DV"})
    workspace.run("other", "BalDRO_DV", 0, dv_beta=5.0)
    found = group([run for run in read(workspace.folder / "saves") if run.place.training])
    assert {one.label: one.seeds for one in found} == {"BalDRO_DV": (0, 1), "BalDRO_DV dv_beta=5.0": (0,)}


def test_runs_of_other_versions_are_compared_and_the_versions_told(workspace: Workspace) -> None:
    for task, trainer, version in (("a", "NPO", "4.45.1"), ("b", "BalDRO_DV", "4.51.3")):
        path = workspace.run(task, trainer)
        write(path / "study.json", {"label": trainer, "versions": {"transformers": version}})
    found = compare([str(workspace.folder / "saves/unlearn")], Options())
    assert "runs of different versions: transformers 4.45.1, 4.51.3" in found.notes


def test_nothing_is_guessed_from_a_folders_name(workspace: Workspace) -> None:
    for name in ("NPO_seed0", "NPO_seed1"):
        write_evaluation(workspace.folder / name, {"forget_Q_A_Prob": [0.1]}, {"model_utility": 0.5})
    found = compare([str(workspace.folder)], Options())
    assert [(one.label, one.seeds) for one in found.groups] == [("NPO_seed0", ()), ("NPO_seed1", ())]
    assert found.notes[-1].endswith("model before unlearning, evaluated split, retain logs")
    assert "NPO_seed0" in found.notes[-1]


def test_a_seed_that_comes_twice_is_refused(workspace: Workspace) -> None:
    workspace.run("one", seed=3)
    workspace.run("two", seed=3)
    with pytest.raises(MixedRunsError, match=r"NPO has seed 3 twice, in .*one and .*two"):
        labels(workspace.folder / "saves/unlearn")


def test_a_job_of_a_sweep_is_known_by_the_record_below_multirun(workspace: Workspace) -> None:
    """Hydra keeps the records of a multirun in multirun/<date>/<time>/<job>, not beside the results."""
    workspace.run("task")
    old = workspace.folder / "saves/unlearn/task"
    name = "tofu_forget10_Llama_BalDRO_G_seed=4"
    trained = old.rename(old.with_name(name))
    shutil.rmtree(trained / ".hydra")
    config = {
        "mode": "unlearn",
        "task_name": "${baldro.run_name:tofu,${forget_split}}",
        "forget_split": "forget10",
        "retain_split": "retain90",
        "retain_logs_path": "${baldro.retain_logs:tofu,${retain_split}}",
        "trainer": {"args": {"seed": 4}},
        "model": {"model_args": {"pretrained_model_name_or_path": "models/target"}},
    }
    overrides = ["trainer=BalDRO_G", "experiment=unlearn/tofu", "trainer.args.seed=4"]
    for job, seed in (("0", 3), ("1", 4)):
        choices = {"trainer": "BalDRO_G", "model": "Llama"}
        changed = [*overrides[:2], f"trainer.args.seed={seed}"]
        write_record(
            workspace.folder / "multirun/2026-01-01/00-00-00" / job, workspace.folder, "train", changed, choices, config
        )
    (run,) = read(trained)
    assert (run.trainer, run.seed) == ("BalDRO_G", 4)
    # Looked for by name, and not there.
    assert run.facts["retain logs"] == "none"


def test_broken_json_is_named_and_nothing_else_is_shown(workspace: Workspace) -> None:
    path = workspace.run("mine") / "TOFU_SUMMARY.json"
    path.write_text(path.read_text()[:40])
    with pytest.raises(BrokenFileError, match=r"TOFU_SUMMARY.json is not valid JSON .* line \d+, column \d+"):
        read(workspace.folder / "saves")


@pytest.mark.parametrize(("file", "text", "reason"), [
    ("trainer_state.json", "[]", "holds list instead of an object"),
    (".hydra/config.yaml", "a: [", "cannot read"),
    (".hydra/config.yaml", "- a", "holds no configuration"),
])  # fmt: skip
def test_other_broken_files_are_named(workspace: Workspace, file: str, text: str, reason: str) -> None:
    workspace.run("mine")
    path = write(workspace.folder / "saves/unlearn/mine" / file, text)
    with pytest.raises(BrokenFileError, match=reason) as error:
        read(workspace.folder / "saves")
    assert str(path) in str(error.value)


def test_a_place_without_runs_says_what_a_run_looks_like(tmp_path: Path) -> None:
    with pytest.raises(NothingToCompareError, match="there is nothing at"):
        read(tmp_path / "nowhere")
    with pytest.raises(NothingToCompareError, match=r"a training of the framework leaves trainer_state.json"):
        read(tmp_path)


def test_the_field_of_a_sample_is_the_one_whose_mean_is_the_metric(workspace: Workspace) -> None:
    rows = {
        "0": {"rouge1_recall": 0.2, "rougeL_f1": 0.1, "rougeL_recall": 0.4, "generation": "a"},
        "1": {"rouge1_recall": 0.4, "rougeL_f1": 0.2, "rougeL_recall": 0.8, "generation": "b"},
        "2": {"rouge1_recall": None, "rougeL_f1": None, "rougeL_recall": None, "generation": ""},
    }
    path = workspace.folder / "e/TOFU_EVAL.json"
    entry = {"agg_value": 0.6, "value_by_index": rows}
    write(path, {"forget_Q_A_ROUGE": entry, "forget_truth_ratio": {**entry, "agg_value": 0.77}})
    (run,) = read(path.parent)
    assert list(run.evaluation.samples) == ["forget_Q_A_ROUGE"]
    assert run.evaluation.samples["forget_Q_A_ROUGE"].indices == ("0", "1")
    assert list(run.evaluation.samples["forget_Q_A_ROUGE"].values) == [0.4, 0.8]


def test_general_abilities_come_without_their_errors(workspace: Workspace) -> None:
    path = workspace.run("mine")
    write(path / "LMEval_SUMMARY.json", {"mmlu/acc": 0.4, "mmlu/acc_stderr": 0.01})
    (run,) = read(path)
    assert "mmlu/acc" in run.evaluation.keys
    assert "mmlu/acc_stderr" not in run.evaluation.keys


def test_two_evaluations_of_one_model_are_not_chosen_between(workspace: Workspace) -> None:
    path = workspace.run("mine")
    shutil.move(path, path.with_name("first"))
    shutil.copytree(path.with_name("first"), path.with_name("second"))
    with pytest.raises(MixedRunsError, match=r"several evaluations .*first.*second.*: name the one to use"):
        read(workspace.folder / "saves/unlearn/mine")
    (run,) = read(path.with_name("second"))
    assert run.place.evaluation == path.with_name("second")


def test_the_retain_model_and_the_model_before_are_references(workspace: Workspace) -> None:
    workspace.run("mine")
    before = write_evaluation(workspace.folder / "saves/eval/target", {"forget_Q_A_Prob": [0.9, 0.9]})
    workspace.record_evaluation(before, "models/target")
    found = compare([str(workspace.folder / "saves")], Options())
    assert [one.label for one in found.groups] == ["NPO"]
    assert found.before is not None
    assert found.before.folder == before
    assert found.retain is not None
    assert found.retain.folder == (workspace.folder / RETAIN_LOGS).parent
