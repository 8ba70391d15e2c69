"""Which runs are found, what is read from them, and which of them are one method."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from baldro_ext.errors import BaldroError, RefusedError, UsageError
from baldro_ext.tools.compare import compare
from baldro_ext.tools.compare.discover import find_runs
from baldro_ext.tools.compare.methods import group
from baldro_ext.tools.compare.recorded import RecordedRun
from tests.compare.folders import RETAIN_LOGS, Workspace, write, write_evaluation


def read(*folders: Path) -> list[RecordedRun]:
    return [RecordedRun(*run) for run in find_runs(folders)]


def methods(workspace: Workspace) -> dict[str, list[int | None]]:
    """The seeds of each method."""
    return {method.label: [run.seed for run in method.runs] for method in group(read(workspace.unlearn))}


def test_a_recorded_run_is_known_completely(workspace: Workspace) -> None:
    workspace.run("mine", "BalDRO_DV", seed=7, probabilities=[0.1, 0.4], base="NPO", dv_beta=2.0)
    (run,) = read(workspace.unlearn / "mine")
    assert (run.trainer, run.seed, run.name, run.unfinished) == ("BalDRO_DV", 7, "unlearn/mine", "")
    values = run.evaluation.values(worst_share=0.1)
    assert (values["forget_Q_A_Prob"], values["forget_Q_A_Prob.largest"]) == (pytest.approx(0.25), 0.4)
    names = ("benchmark", "model before unlearning", "forget split", "evaluated split")
    assert [run.facts[name] for name in names] == ["TOFU", "models/target", "forget10", "forget10"]
    assert "TOFU_EVAL.json of retain90 (sha256 " in str(run.facts["retain logs"])
    assert run.commands[0].startswith("python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu")
    assert run.settings["method_args.dv_beta"] == "2"


@pytest.mark.parametrize(
    "argument", ["saves", "saves/unlearn/mine", "saves/eval/mine", "saves/*/mine", "saves/unlearn"]
)
def test_a_run_is_found_by_any_of_its_folders(workspace: Workspace, argument: str) -> None:
    evaluation = workspace.run("mine")
    found = [run for run in find_runs([str(workspace.folder / argument)]) if run[0]]
    assert found == [(workspace.unlearn / "mine", evaluation)]


@pytest.mark.parametrize("name", ["mine[1]", "mine?", "*"])
def test_a_folder_may_have_a_name_that_looks_like_a_pattern(workspace: Workspace, name: str) -> None:
    evaluation = workspace.run(name)
    workspace.run("mine1", "BalDRO_DV")
    assert find_runs([str(evaluation)]) == [(workspace.unlearn / name, evaluation)]


@pytest.mark.parametrize("target", [".", "link", "nowhere", "..", "mine", "../eval"])
def test_a_link_to_what_is_there_already_changes_nothing(workspace: Workspace, target: str) -> None:
    workspace.run("mine")
    found = find_runs([workspace.folder / "saves"])
    (workspace.unlearn / "link").symlink_to(target)
    assert find_runs([workspace.folder / "saves"]) == found


def test_a_link_that_leads_elsewhere_is_followed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("mine")
    shutil.move(workspace.unlearn / "mine", tmp_path / "disk" / "mine")
    (tmp_path / "disk" / "back").symlink_to(workspace.folder)
    (workspace.unlearn / "link").symlink_to(tmp_path / "disk")
    assert (workspace.unlearn / "link" / "mine", None) in find_runs([workspace.folder / "saves"])


@pytest.mark.parametrize("moved_to", ["saves/eval/again", "saves/unlearn/mine/evals"])
def test_an_evaluation_elsewhere_is_found_by_the_model_it_loaded(workspace: Workspace, moved_to: str) -> None:
    shutil.move(workspace.run("mine"), workspace.folder / moved_to)
    (run,) = read(workspace.unlearn / "mine")
    assert run.evaluation.folder == workspace.folder / moved_to


def test_a_working_folder_may_be_moved(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("mine")
    moved = workspace.folder.rename(tmp_path / "elsewhere")
    (run,) = read(moved / "saves/unlearn")
    assert (run.training, run.evaluation.folder) == (moved / "saves/unlearn/mine", moved / "saves/eval/mine")
    assert "sha256" in str(run.facts["retain logs"])


def test_two_evaluations_of_one_model_are_refused(workspace: Workspace) -> None:
    path = workspace.run("mine")
    shutil.move(path, path.with_name("first"))
    shutil.copytree(path.with_name("first"), path.with_name("second"))
    with pytest.raises(RefusedError, match=r"first.*second"):
        read(workspace.unlearn / "mine")
    (run,) = read(path.with_name("second"))
    assert run.evaluation.folder == path.with_name("second")


def test_the_evaluation_at_the_last_step_stands_in_for_a_final_one(workspace: Workspace) -> None:
    training = workspace.training("mine")
    write_evaluation(training / "checkpoint-5/evals", {"forget_Q_A_Prob": [0.9]})
    (run,) = read(training)
    assert run.evaluation.aggregates == {}, "of an earlier step it does not"
    assert "src/eval.py" in run.unfinished
    write_evaluation(training / "checkpoint-10/evals", {"forget_Q_A_Prob": [0.2]})
    (run,) = read(training)
    assert (run.evaluation.aggregates, run.unfinished) == ({"forget_Q_A_Prob": 0.2}, "")
    assert list(run.checkpoints) == [1.0, 2.0]


def test_unfinished_runs_are_left_out_and_named_in_one_note(workspace: Workspace) -> None:
    workspace.run("finished", "SimNPO")
    for name in ("begun", "again"):
        training = workspace.training(name)
        write_evaluation(training / "checkpoint-5/evals", {"forget_Q_A_Prob": [0.9]})
        (training / "trainer_state.json").unlink()
    workspace.training("trained", "BalDRO_DV")
    comparison = compare([workspace.unlearn])
    assert [method.label for method in comparison.methods] == ["SimNPO"]
    (note,) = [note for note in comparison.notes if "left out" in note]
    assert "unlearn/again, unlearn/begun (its training has not finished)" in note
    assert "unlearn/trained (its model is not evaluated: run src/eval.py" in note


@pytest.mark.parametrize(
    ("betas", "labels"),
    [
        ((None, 5.0), ["BalDRO_DV", "BalDRO_DV dv_beta=5"]),
        ((1.0, 5.0), ["BalDRO_DV dv_beta=1", "BalDRO_DV dv_beta=5"]),
        ((5.0,), ["BalDRO_DV dv_beta=5"]),
        ((None,), ["BalDRO_DV"]),
    ],
)
def test_a_label_has_what_differs_from_the_default_and_between_methods(
    workspace: Workspace, betas: tuple[float | None, ...], labels: list[str]
) -> None:
    for beta in betas:
        for seed in (0, 1):
            # gamma is set for all, and base belongs to the trainer.
            given = {} if beta is None else {"dv_beta": beta}
            workspace.run(f"{beta}_{seed}", "BalDRO_DV", seed, base="NPO", gamma=0.5, **given)
    workspace.run("npo", "NPO", gamma=0.5)
    assert methods(workspace) == {**{label: [0, 1] for label in labels}, "NPO": [0]}


def test_a_resumed_run_is_the_same_method(workspace: Workspace) -> None:
    workspace.run("straight", seed=0)
    workspace.run("resumed", seed=1)
    record = workspace.unlearn / "resumed" / ".hydra" / "config.yaml"
    config = OmegaConf.load(record)
    config.trainer.args.resume_from_checkpoint = True
    OmegaConf.save(config, record)
    assert methods(workspace) == {"NPO": [0, 1]}


def test_study_json_names_the_method(workspace: Workspace) -> None:
    study = {
        "label": "ours",
        "trainer": "BalDRO_DV",
        "seed": 1,
        "versions": {"torch": "2.13"},
    }
    path = write(workspace.run("mine", "BalDRO_DV", seed=1) / "study.json", study)
    (run,) = read(path.parent)
    assert (group([run])[0].label, run.versions) == ("ours", {"torch": "2.13"})


def test_a_run_whose_model_was_deleted_is_known_by_study_json_and_its_evaluation(workspace: Workspace) -> None:
    path = workspace.run("mine")
    shutil.rmtree(workspace.unlearn / "mine")
    study = {"label": "ours", "seed": 3, "split": "forget05", "model": "models/x", "lm_eval": ["arc_easy"]}
    write(path / "study.json", {**study, "overrides": ["trainer.args.learning_rate=2e-5"]})
    (run,) = read(path)
    assert (run.label, run.seed, run.learning_rate) == ("ours", 3, 2e-5)
    assert (run.facts["forget split"], run.facts["model before unlearning"]) == ("forget05", "models/x")
    assert (run.facts["evaluated split"], run.facts["lm-eval tasks"]) == ("forget10", "['arc_easy']")
    assert "TOFU_EVAL.json of retain90 (sha256 " in str(run.facts["retain logs"])


@pytest.mark.parametrize("deleted", [True, False])
def test_deleted_trainings_change_neither_methods_nor_references(workspace: Workspace, deleted: bool) -> None:
    common = {"model": "models/target"}
    for label, seed in itertools.product(("NPO", "BalDRO_DV"), (0, 1)):
        task = f"{label}_seed{seed}"
        evaluated = workspace.run(task, label, seed, **({"base": "NPO"} if label == "BalDRO_DV" else {}))
        again = workspace.relearn(task)
        base = {"base": "NPO"} if label == "BalDRO_DV" else {}
        args = {"gradient_accumulation_steps": 4}
        settings = {"handler": label, "args": args, "method_args": base}
        known = {"trainer": label, "seed": seed, "settings": settings, "versions": {"transformers": "4.51.3"}, **common}
        write(evaluated / "study.json", {**known, "label": label, "folder": f"saves/unlearn/{task}"})
        write(again / "study.json", {**known, "label": f"{label}_relearned", "folder": f"saves/relearn/{task}"})
    before = write_evaluation(workspace.folder / "saves/eval/before", {"forget_Q_A_Prob": [0.9] * 4})
    workspace.record_evaluation(before, "models/target")
    write(before / "study.json", {"label": "before", "folder": "models/target", **common})
    write((workspace.folder / RETAIN_LOGS).with_name("study.json"), {"label": "retain90", **common})
    if deleted:
        shutil.rmtree(workspace.unlearn)
    for baseline in ("", "base"):
        comparison = compare([workspace.folder / "saves"], baseline=baseline)
        assert set(comparison.references) == {"before unlearning", "retain model"}
        assert comparison.baselines == {"BalDRO_DV": "NPO", "BalDRO_DV_relearned": "NPO_relearned"}
    assert "UNFAIR: NPO multiplies loss and gradient" in comparison.warnings[0]
    assert {it.label for it in comparison.methods if it.is_relearned} == {"NPO_relearned", "BalDRO_DV_relearned"}


def test_a_labelled_run_and_one_of_ones_own_are_one_method_if_their_settings_agree(workspace: Workspace) -> None:
    labelled, _ = (workspace.run(f"plain_{seed}", "BalDRO_DV", seed, dv_beta=1.0) for seed in (0, 1))
    write(labelled / "study.json", {"label": "BalDRO_DV"})
    workspace.run("other", "BalDRO_DV", 0, dv_beta=5.0)
    assert methods(workspace) == {"BalDRO_DV": [0, 1], "BalDRO_DV dv_beta=5": [0]}


def test_a_deleted_training_renames_no_other_method(workspace: Workspace) -> None:
    workspace.run("by_hand", "NPO", beta=0.1)
    mine = workspace.run("mine", "NPO", beta=0.5)
    settings = json.loads((workspace.unlearn / "mine/.hydra/config.yaml").read_text())["trainer"]
    typed = ["trainer.method_args.beta=0.5"]
    write(mine / "study.json", {"label": "mine", "trainer": "NPO", "seed": 0, "settings": settings, "overrides": typed})
    names = set(methods(workspace))
    shutil.rmtree(workspace.unlearn / "mine")
    assert {it.label for it in compare([workspace.unlearn, mine]).methods} == names == {"NPO beta=0.1", "mine"}


def test_nothing_is_guessed_from_a_folders_name(workspace: Workspace) -> None:
    for name in ("NPO_seed0", "NPO_seed1"):
        write_evaluation(workspace.folder / name, {"forget_Q_A_Prob": [0.1]}, {"model_utility": 0.5})
    comparison = compare([workspace.folder])
    assert [(it.label, it.runs[0].seed) for it in comparison.methods] == [("NPO_seed0", None), ("NPO_seed1", None)]
    assert "NPO_seed0" in comparison.notes[-1]
    assert "model before unlearning, evaluated split, retain logs" in comparison.notes[-1]


def test_a_model_relearned_by_hand_is_no_further_seed_of_the_unlearned_ones(workspace: Workspace) -> None:
    for beta, seed in ((1.0, 1), (1.0, 2), (5.0, 1)):
        workspace.run(f"{beta}_{seed}", "BalDRO_DV", seed, dv_beta=beta)
        workspace.relearn(f"{beta}_{seed}")
    one, five = "BalDRO_DV dv_beta=1", "BalDRO_DV dv_beta=5"
    assert methods(workspace) == {one: [1, 2], f"{one}_relearned": [1, 2], five: [1], f"{five}_relearned": [1]}


def test_a_seed_that_comes_twice_is_refused(workspace: Workspace) -> None:
    workspace.run("one", seed=3)
    workspace.run("two", seed=3)
    with pytest.raises(RefusedError, match=r"NPO has seed 3 twice, in .*one and .*two"):
        methods(workspace)


def test_retain_logs_are_found_where_our_experiments_look_for_them(workspace: Workspace) -> None:
    training = workspace.training("mine")
    write_evaluation(training / "checkpoint-10/evals", {"forget_Q_A_Prob": [0.2]})
    record = training / ".hydra/config.yaml"
    config = OmegaConf.load(record)
    config.retain_logs_path = "${baldro.retain_logs:tofu,${retain_split}}"
    OmegaConf.save(config, record)
    (run,) = read(training)
    assert run.facts["retain logs"] == "none", "the resolver looks for a file by name, and there is none"
    write_evaluation(workspace.folder / "saves/eval/tofu_Llama_retain90", {"forget_Q_A_Prob": [0.1]})
    (run,) = read(training)
    assert "TOFU_EVAL.json of tofu_Llama_retain90 (sha256 " in str(run.facts["retain logs"])


def test_copies_of_one_retain_evaluation_are_the_same(workspace: Workspace) -> None:
    workspace.run("a")
    evaluated = workspace.run("b", "BalDRO_DV")
    elsewhere = workspace.folder / "saves/eval/again/TOFU_EVAL.json"
    write(elsewhere, (workspace.folder / RETAIN_LOGS).read_text())
    workspace.record_evaluation(evaluated, "saves/unlearn/b", "saves/eval/again/TOFU_EVAL.json")
    assert [it.label for it in compare([workspace.unlearn]).methods] == ["NPO", "BalDRO_DV"]
    write(elsewhere, {})
    with pytest.raises(RefusedError, match=r"retain logs: TOFU_EVAL.json of retain90 .* in unlearn/a; .* of again"):
        compare([workspace.unlearn])


@pytest.mark.parametrize("evaluated", [True, False])
def test_what_teaches_a_model_is_no_method(workspace: Workspace, evaluated: bool) -> None:
    workspace.run("mine", model="saves/finetune/full")
    path = workspace.training("full", "finetune", model="models/pretrained")
    config = json.loads((path / ".hydra/config.yaml").read_text())
    write(path / ".hydra/config.yaml", {**config, "mode": "train"})
    taught = workspace.folder / "saves/finetune/full"
    taught.parent.mkdir()
    path.rename(taught)
    if evaluated:
        before = write_evaluation(workspace.folder / "saves/eval/full", {"forget_Q_A_Prob": [0.9, 0.9]})
        workspace.record_evaluation(before, "saves/finetune/full")
    comparison = compare([workspace.folder / "saves"])
    assert [it.label for it in comparison.methods] == ["NPO"]
    assert ("before unlearning" in comparison.references) == evaluated


@pytest.mark.parametrize(
    "value", ["${oc.env:TOKEN}", "${ oc.env : TOKEN }", "x${oc.select:a.${oc.env:TOKEN},1}", "${other}"]
)
def test_a_record_of_somebody_else_does_not_read_the_environment(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    workspace.run("mine")
    record = workspace.unlearn / "mine" / ".hydra" / "config.yaml"
    config = OmegaConf.load(record)
    config.model.model_args.pretrained_model_name_or_path = value
    config.other = "${oc.env:TOKEN}"
    OmegaConf.save(config, record)
    (run,) = read(workspace.unlearn / "mine")
    assert "secret" not in repr(run)


@pytest.mark.parametrize(("file", "text", "reason"), [
    ("unlearn/mine/trainer_state.json", "[]", r"\[\] where a mapping belongs"),
    ("unlearn/mine/.hydra/config.yaml", "a: [", "cannot read"),
    ("unlearn/mine/.hydra/config.yaml", "- a", "holds no configuration"),
    ("eval/mine/TOFU_SUMMARY.json", '{"model_utility": 0', "line 1 column"),
    ("eval/mine/study.json", '{"seed": "first"}', "'first'"),
])  # fmt: skip
def test_a_broken_file_is_named(workspace: Workspace, file: str, text: str, reason: str) -> None:
    workspace.run("mine")
    path = write(workspace.folder / "saves" / file, text)
    with pytest.raises(BaldroError, match=reason) as error:
        read(workspace.folder / "saves")
    assert "study.json" in file or str(path) in str(error.value)


def test_a_folder_without_runs_says_what_a_run_looks_like(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"trainer_state.json"):
        read(tmp_path)


def test_the_per_sample_field_is_the_one_whose_mean_is_the_metric(workspace: Workspace) -> None:
    rows = {
        "0": {"rouge1_recall": 0.2, "rougeL_f1": 0.1, "rougeL_recall": 0.4, "generation": "a"},
        "1": {"rouge1_recall": 0.4, "rougeL_f1": 0.2, "rougeL_recall": 0.8, "generation": "b"},
        "2": {"rouge1_recall": None, "rougeL_f1": None, "rougeL_recall": None, "generation": ""},
    }
    entry = {"agg_value": 0.6, "value_by_index": rows}
    content = {"forget_Q_A_ROUGE": entry, "forget_truth_ratio": {**entry, "agg_value": 0.77}}
    (run,) = read(write(workspace.folder / "e/TOFU_EVAL.json", content).parent)
    assert {key: it.to_dict() for key, it in run.evaluation.samples.items()} == {
        "forget_Q_A_ROUGE": {"0": 0.4, "1": 0.8}
    }


def test_general_abilities_come_without_their_errors(workspace: Workspace) -> None:
    path = workspace.run("mine")
    write(path / "LMEval_SUMMARY.json", {"mmlu/acc": 0.4, "mmlu/acc_stderr": 0.01})
    (run,) = read(path)
    assert {key for key in run.evaluation.aggregates if key.startswith("mmlu")} == {"mmlu/acc"}


def test_two_benchmarks_in_one_folder_are_refused(workspace: Workspace) -> None:
    write_evaluation(workspace.run("mine"), {"extraction_strength": [0.2]}, benchmark="MUSE")
    with pytest.raises(BaldroError, match="TOFU and MUSE"):
        read(workspace.unlearn)


def test_the_retain_model_and_the_model_before_are_references(workspace: Workspace) -> None:
    workspace.run("mine")
    before = write_evaluation(workspace.folder / "saves/eval/target", {"forget_Q_A_Prob": [0.9, 0.9]})
    workspace.record_evaluation(before, "models/target")
    comparison = compare([workspace.folder / "saves"])
    assert [method.label for method in comparison.methods] == ["NPO"]
    assert list(comparison.references) == ["before unlearning", "retain model"]
    assert comparison.references["before unlearning"].folder == before
    assert comparison.references["retain model"].folder == (workspace.folder / RETAIN_LOGS).parent
