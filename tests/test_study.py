"""A comparison as commands: what is typed where, before anything runs."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from baldro_ext.errors import UsageError
from baldro_ext.tools.commands import Command
from baldro_ext.tools.run import Method, Run, Study

RADIUS = "radius=BalDRO_DV:trainer.method_args.dv_beta=null trainer.method_args.dv_radius=0.5"
STUDY = Study(
    methods=(Method.parse("NPO"), Method.parse(RADIUS)),
    seeds=(0, 1),
    model="models/target",
    retain_model="models/retain90",
    hardware="cpu",
)


def one(study: Study, task: str) -> Run:
    (run,) = (run for run in study.runs if run.task == task)
    return run


def training(study: Study, task: str) -> Command:
    command = one(study, task).training
    assert command is not None
    return command


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("NPO", Method("NPO", "NPO")),
        ("mine=NPO", Method("mine", "NPO")),
        (
            "BalDRO_DV:trainer.method_args.dv_beta=5",
            Method("BalDRO_DV_dv_beta-5", "BalDRO_DV", ("trainer.method_args.dv_beta=5",)),
        ),
        (
            "NPO:+trainer.args.max_steps=2 ~eval.tofu",
            Method("NPO_max_steps-2_tofu", "NPO", ("+trainer.args.max_steps=2", "~eval.tofu")),
        ),
        ("x=NPO:'a=[1, 2]' b=c:d", Method("x", "NPO", ("a=[1, 2]", "b=c:d"))),
    ],
)
def test_a_method_is_a_trainer_with_overrides_and_a_label(text: str, method: Method) -> None:
    assert Method.parse(text) == method


@pytest.mark.parametrize("text", ["", ":a=1", "NPO:nothing", "NPO:'a=1", "a=b=NPO", "a/b=NPO", "=NPO", "two words=NPO"])
def test_what_is_no_method_is_answered_with_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"DV5=BalDRO_DV:|DV_radius=BalDRO_DV:|quote them"):
        Method.parse(text)


def test_a_method_is_trained_with_each_learning_rate() -> None:
    low, high = Method.parse(RADIUS).at_rates(("1e-4", "0.001"))
    assert (low.label, high.label) == ("radius_lr1e-4", "radius_lr0.001")
    assert high.overrides == (*Method.parse(RADIUS).overrides, "trainer.args.learning_rate=0.001")
    assert shlex.quote(low.label) == low.label
    assert Method.parse("NPO").at_rates(()) == (Method.parse("NPO"),)


@pytest.mark.parametrize(
    ("rates", "text", "common", "named"),
    [
        *(
            (("1e-4", wrong), "NPO", (), repr(wrong))
            for wrong in ("0", "0e5", "1e999", "-1", "nan", "1e+4", "1_0", "high")
        ),
        (("1e-4",), "NPO:trainer.args.learning_rate=1", (), "'trainer.args.learning_rate=1'"),
        (("1e-4",), "NPO", ("++trainer.args.learning_rate=1",), "'++trainer.args.learning_rate=1'"),
    ],
)
def test_a_grid_without_meaning_is_refused(
    rates: tuple[str, ...], text: str, common: tuple[str, ...], named: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(named)):
        Method.parse(text).at_rates(rates, common)


def test_every_method_with_the_first_seed_comes_before_the_second() -> None:
    assert [run.task for run in STUDY.runs] == ["before", "NPO_seed0", "radius_seed0", "NPO_seed1", "radius_seed1"]
    assert (one(STUDY, "radius_seed1").seed, one(STUDY, "radius_seed1").method) == (1, Method.parse(RADIUS))


def test_a_training_is_the_frameworks_command() -> None:
    assert training(STUDY, "radius_seed1").line(Path("unlearning")) == (
        "python unlearning/src/train.py trainer=BalDRO_DV experiment=unlearn/tofu +hardware=cpu task_name=radius_seed1 "
        "trainer.args.seed=1 model.model_args.pretrained_model_name_or_path=models/target "
        "trainer.args.eval_on_start=false trainer.args.eval_strategy=no trainer.args.do_eval=false "
        "trainer.method_args.dv_beta=null trainer.method_args.dv_radius=0.5"
    )
    assert training(STUDY, "radius_seed1").results == ("saves/unlearn/radius_seed1/training_args.bin",)


def test_an_evaluation_compares_the_trained_model_with_the_retain_model() -> None:
    (evaluation,) = one(STUDY, "NPO_seed0").evaluations
    assert evaluation.line(Path("unlearning")) == (
        "python unlearning/src/eval.py experiment=eval/tofu/default +hardware=cpu_eval task_name=NPO_seed0 "
        "model.model_args.pretrained_model_name_or_path=saves/unlearn/NPO_seed0 "
        "retain_logs_path=saves/eval/retain90_forget10/TOFU_EVAL.json eval.tofu.overwrite=true"
    )
    assert evaluation.results == ("saves/eval/NPO_seed0/TOFU_EVAL.json", "saves/eval/NPO_seed0/TOFU_SUMMARY.json")


def test_a_relearning_finetunes_the_unlearned_model_at_a_rate_of_its_own() -> None:
    common = ("trainer.args.learning_rate=1", "model.x=1", "trainer.args.optim=sgd")  # the machine's, not the method's
    study = replace(STUDY, relearn=3e-5, split="forget05", common=common)
    relearning = one(study, "NPO_seed1").relearning
    assert relearning is not None
    assert relearning.training is not None
    assert relearning.training.line(Path("unlearning")) == (
        "python unlearning/src/train.py experiment=relearn/tofu +hardware=cpu task_name=NPO_relearned_seed1 "
        "model.model_args.pretrained_model_name_or_path=saves/unlearn/NPO_seed1 trainer.args.learning_rate=3e-05 "
        "forget_split=forget05 holdout_split=holdout05 model.x=1 trainer.args.optim=sgd"
    )
    (evaluation,) = relearning.evaluations
    assert "model.model_args.pretrained_model_name_or_path=saves/relearn/NPO_relearned_seed1" in evaluation.overrides
    assert all("+eval/relearned=tofu" in run.evaluations[0].overrides for run in (relearning, *study.runs))


def test_the_retain_model_is_evaluated_first_and_without_comparison() -> None:
    retain = STUDY.retain
    assert retain is not None
    (command,) = retain.commands
    assert command.results[0] == "saves/eval/retain90_forget10/TOFU_EVAL.json"
    assert "model.model_args.pretrained_model_name_or_path=models/retain90" in command.overrides
    assert not [override for override in command.overrides if override.startswith("retain_logs_path")]
    given = replace(STUDY, retain_model=None, retain_logs="logs/mine.json")
    assert given.retain is None
    assert "retain_logs_path=logs/mine.json" in one(given, "NPO_seed0").evaluations[0].overrides


@pytest.mark.parametrize(
    ("experiment", "split", "in_training", "in_evaluation"),
    [
        (
            "unlearn/tofu",
            "forget05",
            {"forget_split=forget05", "retain_split=retain95", "holdout_split=holdout05"},
            {"forget_split=forget05", "holdout_split=holdout05"},
        ),
        ("unlearn/muse", "Books", {"data_split=Books"}, {"data_split=Books"}),
        ("unlearn/wmdp_rmu", "bio", {"data_split=bio"}, {"data_split=bio"}),
    ],
)
def test_the_split_reaches_training_and_evaluation(
    experiment: str, split: str, in_training: set[str], in_evaluation: set[str]
) -> None:
    run = one(replace(STUDY, experiment=experiment, split=split), "NPO_seed0")
    assert run.training is not None
    for command, expected in ((run.training, in_training), (run.evaluations[0], in_evaluation)):
        assert {override for override in command.overrides if "split=" in override} == expected


def test_an_override_goes_where_it_has_a_meaning() -> None:
    study = replace(
        STUDY,
        common=(
            "trainer.args.learning_rate=1e-4",
            "model.model_args.attn_implementation=sdpa",
            "forget_split=forget05",
        ),
        evaluation=("eval.tofu.batch_size=8", "+eval/balance=tofu", "eval.lm_eval.simple_evaluate_args.batch_size=4"),
        lm_eval=("mmlu", "arc_easy"),
    )
    run = one(study, "NPO_seed0")
    assert run.training is not None
    benchmark, tasks = (set(command.overrides) for command in run.evaluations)
    assert set(study.common) <= set(run.training.overrides)
    assert not set(study.evaluation) & set(run.training.overrides)
    assert {*study.common[1:], *study.evaluation[:2]} <= benchmark
    assert not {study.common[0], study.evaluation[2]} & benchmark
    assert {study.common[1], study.evaluation[2], "eval=lm_eval", "eval.lm_eval.tasks=[mmlu,arc_easy]"} <= tasks
    assert not {study.common[0], study.common[2], *study.evaluation[:2]} & tasks


def test_every_epoch_evaluates_the_chosen_metrics_within_training() -> None:
    study = replace(STUDY, every_epoch=("forget_Q_A_Prob",), evaluation=("eval.tofu.batch_size=8",))
    assert {
        "trainer.args.eval_strategy=epoch",
        "eval/tofu_metrics@eval.tofu.tofu_metrics=[forget_Q_A_Prob]",
        "eval.tofu.batch_size=8",
    } <= set(training(study, "NPO_seed0").overrides)


def test_settings_of_a_metric_reach_the_evaluations_that_have_it() -> None:
    names = ("forget_truth_ratio", "forget_Q_A_Prob", "leak_at_k")
    of_metrics = tuple(f"eval.tofu.metrics.{name}.batch_size=4" for name in names)
    study = replace(
        STUDY,
        every_epoch=("forget_Q_A_Prob", "forget_Truth_Ratio"),
        evaluation=(*of_metrics, "eval.tofu.batch_size=8"),
    )
    within = training(study, "NPO_seed0").overrides
    assert [it in within for it in study.evaluation] == [True, True, False, True]
    assert set(study.evaluation) <= set(one(study, "NPO_seed0").evaluations[0].overrides)


def test_wmdp_is_evaluated_by_tasks_once() -> None:
    study = replace(STUDY, experiment="unlearn/wmdp", lm_eval=("wmdp_cyber", "mmlu"))
    (evaluation,) = one(study, "NPO_seed0").evaluations
    assert evaluation.results == ("saves/eval/NPO_seed0/LMEval_SUMMARY.json",)
    assert "eval.lm_eval.tasks=[wmdp_cyber,mmlu]" in evaluation.overrides
    assert not [override for override in evaluation.overrides if override.startswith("retain_logs_path")]
    assert study.retain is None


@pytest.mark.parametrize(
    ("method", "common", "version", "averaged"),
    [
        ("NPO", (), "4.51.3", True),
        ("NPO", ("trainer.args.gradient_accumulation_steps=8",), "4.51.3", True),
        (
            "NPO:trainer.args.gradient_accumulation_steps=1",
            ("trainer.args.gradient_accumulation_steps=8",),
            "4.51.3",
            False,
        ),
        ("BalDRO_DV_radius", (), "4.51.3", False),
        ("NPO", ("+accumulation=averaged",), "4.51.3", True),
        ("NPO", (), "4.45.1", False),
        ("NPO", (), "5.5.4", False),
        ("NPO", (), None, False),
    ],
)
def test_the_frameworks_trainers_average_over_accumulation_steps_where_they_would_not(
    method: str, common: tuple[str, ...], version: str | None, averaged: bool
) -> None:
    study = replace(STUDY, methods=(Method.parse(f"mine={method}"),), common=common, transformers=version)
    assert training(study, "mine_seed0").overrides.count("+accumulation=averaged") == averaged


def test_what_differs_between_the_commands_of_a_study_cannot_be_overridden() -> None:
    study = replace(STUDY, relearn=1e-5, split="forget05")
    relearned = [run.relearning for run in study.runs if run.relearning]
    values: dict[str, set[str]] = {}
    for command in (command for run in (*study.runs, *relearned) for command in run.commands):
        for override in command.overrides:
            key, _, value = override.lstrip("+").partition("=")
            values.setdefault(key, set()).add(value)
    # The rate of trainings is the user's, and that of relearning is its own; a method has overrides of its own.
    different = {key for key, those in values.items() if len(those) > 1} - {"trainer.args.learning_rate"}
    assert {"trainer", "task_name", "model.model_args.pretrained_model_name_or_path"} < different
    for key in different:
        with pytest.raises(UsageError, match=re.escape(f"baldro run sets {key} itself")):
            replace(study, common=(f"{key}=mine",))


@pytest.mark.parametrize(
    "override",
    [
        "trainer.args.seed=5",
        "++trainer.args.seed=5",
        "task_name=x",
        "experiment=unlearn/muse",
        "trainer=NPO",
        "model.model_args.pretrained_model_name_or_path=models/target",
        "retain_logs_path=logs.json",
        "+hardware=cpu",
        "++model.model_args={pretrained_model_name_or_path: models/other}",
        "model={model_args: {pretrained_model_name_or_path: models/other}}",
        "eval.tofu.retain_logs_path=logs.json",
    ],
)
@pytest.mark.parametrize("where", ["methods", "common", "evaluation"])
def test_an_override_of_what_names_a_result_is_refused(where: str, override: str) -> None:
    given = (Method("NPO", "NPO", (override,)),) if where == "methods" else (override,)
    with pytest.raises(UsageError, match=re.escape(override)):
        replace(STUDY, **{where: given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (-1,)}, "from 0 to 4294967295"),
        ({"methods": (Method("NPO", "NPO"), Method("NPO", "SimNPO"))}, "share the name NPO"),
        ({"methods": (Method("before", "NPO"),)}, "share the name before"),
        ({"methods": ()}, "at least one method"),
        ({"seeds": (1, 1)}, "no seed twice"),
        ({"experiment": "unlearn/tofo"}, "did you mean unlearn/tofu?"),
        ({"experiment": "finetune/tofu"}, "There are unlearn/muse, unlearn/tofu, unlearn/wmdp"),
        ({"experiment": "unlearn/wmdp", "metrics": ("forget_Q_A_Prob",)}, "choose them by lm_eval"),
        ({"retain_logs": "logs.json"}, "only one of them"),
        ({"experiment": "unlearn/muse", "relearn": 1e-5}, "relearn is for TOFU"),
        ({"experiment": "unlearn/tofu/default"}, "did you mean unlearn/tofu?"),
        ({"relearn": 0.0}, "relearn=0.0"),
        ({"relearn": 1e-5, "common": ("+peft=lora",)}, "adapters of NPO, radius: add peft.merge=true"),
        (
            {"relearn": 1e-5, "methods": (Method("lora", "NPO", ("+peft=lora", "peft.merge=false")),)},
            "adapters of lora: add peft.merge=true",
        ),
        (
            {"relearn": 1e-5, "methods": (Method("a", "NPO"), Method("a_relearned", "NPO"))},
            "share the name a_relearned",
        ),
    ],
)
def test_a_study_without_meaning_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        replace(STUDY, **change)  # type: ignore[arg-type]


def test_a_merged_model_is_relearned() -> None:
    study = replace(STUDY, relearn=1e-5, common=("+peft=lora", "peft.merge=true"))
    assert all(run.relearning for run in study.runs if run.method)


@pytest.mark.parametrize(
    ("experiment", "split", "message"),
    [
        ("unlearn/tofu", "Books", "there are forget01, forget05, forget10"),
        ("unlearn/muse", "books", r"did you mean Books\?"),
    ],
)
def test_a_split_that_the_benchmark_does_not_have_is_refused(experiment: str, split: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(STUDY, experiment=experiment, split=split).runs  # noqa: B018
