"""The framework's own commands, unchanged, with the extension's trainers."""

import json
import math
import re
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from baldro_ext.losses import FORGET_LOSSES
from baldro_ext.weightings import VARIANTS

from .conftest import MODEL, TRAIN, Framework

pytestmark = pytest.mark.framework

TRAINERS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "trainer").glob("*.yaml"))
LOGGED = (
    "forget_loss_mean",
    "forget_loss_robust",
    "retain_loss",
    "effective_sample_size",
    "kl_to_uniform",
    "largest_weight",
)
# Short chunks, so that a little text makes several samples; no evaluator, which these runs do not use.
PIPELINES = {
    "tofu": ("+trainer.args.max_steps=2", "~eval.tofu"),
    "muse": (
        "+trainer.args.max_steps=2",
        "~eval.muse",
        "data.forget.MUSE_forget.args.max_length=32",
        "data.retain.MUSE_retain.args.max_length=32",
    ),
    "wmdp": (
        "trainer.args.max_steps=2",
        "~eval.lm_eval",
        "data.forget.WMDP_forget.args.max_length=32",
        "data.retain.WMDP_retain.args.max_length=32",
    ),
}


OF_BASE = {
    "RMU": (
        r"++trainer.method_args.module_regex=model\\.layers\\.1",
        "++trainer.method_args.trainable_params_regex=[.*mlp.*]",
    ),
    "DPO": (),  # needs second answers, which only one experiment has
}
"""Arguments of the bases that cannot be trained with the others."""


def test_every_method_has_a_configuration() -> None:
    bases = {"" if base == "NPO" else f"_{base}" for base in (*FORGET_LOSSES, "GradAscent")}
    paper = {f"{variant}{base}" for variant in ("BalDRO_DV", "BalDRO_G") for base in bases}
    assert set(TRAINERS) == {"BalDRO_DV_radius", *VARIANTS, *paper}


def test_the_short_command_trains_and_evaluates(framework: Framework) -> None:
    """`python src/train.py trainer=BalDRO_DV experiment=unlearn/tofu`, on a CPU and a small model."""
    framework.train(
        "trainer=BalDRO_DV",
        "experiment=unlearn/tofu",
        "task_name=short",
        "trainer.args.num_train_epochs=1",
        "trainer.args.logging_steps=1",
        "trainer.args.logging_dir=logs",
        common=TRAIN[:3],
    )
    (step,) = framework.steps("short")
    assert all(math.isfinite(step[name]) for name in LOGGED)
    summaries = sorted(framework.saved("short").glob("checkpoint-*/evals/TOFU_SUMMARY.json"))
    assert [path.parts[-3] for path in summaries] == ["checkpoint-0", "checkpoint-1"]
    assert "extraction_strength" in json.loads(summaries[0].read_text())


def trains(framework: Framework, trainers: list[str], benchmark: str, *overrides: str) -> None:
    """Train two steps with each trainer, by one command, and look at what it logs and saves."""
    framework.train(
        "-m",
        f"trainer={','.join(trainers)}",
        f"experiment=unlearn/{benchmark}",
        f"task_name={benchmark}_${{hydra:runtime.choices.trainer}}",
        "trainer.args.per_device_train_batch_size=4",
        "trainer.args.gradient_accumulation_steps=1",
        *overrides,
    )
    for trainer in trainers:
        steps = framework.steps(f"{benchmark}_{trainer}")
        assert len(steps) == 2
        assert all(math.isfinite(step[key]) for step in steps for key in (*LOGGED, "loss", "grad_norm"))
        assert (framework.saved(f"{benchmark}_{trainer}") / "model.safetensors").exists()


@pytest.mark.parametrize("benchmark", PIPELINES)
def test_every_trainer_runs_on(framework: Framework, benchmark: str) -> None:
    trainers = [name for name in TRAINERS if name.split("_")[-1] not in OF_BASE]
    if framework.name != "G2":  # the others compose, see below
        trainers = ["BalDRO_DV", "BalDRO_G_SatImp", "BalDRO_DV_UNDIAL"]
    elif benchmark != "tofu":  # a trainer for each kind of pass, and each weighting
        trainers = [f"BalDRO_{name}" for name in ("DV_radius", "G_SimNPO", "Chi2", "G_WGA", "DV_UNDIAL", "G_PDU")]
    trains(framework, trainers, benchmark, *PIPELINES[benchmark])


@pytest.mark.generations("G1", "G3")
def test_every_trainer_and_every_experiment_composes(framework: Framework) -> None:
    others = ",".join(f"unlearn/{name}" for name in ("muse", "wmdp", "wmdp_rmu", "tofu_idk"))
    count = framework.composes(
        f"python src/train.py -m trainer={','.join(TRAINERS)} experiment=unlearn/tofu",
        f"python src/train.py -m trainer=BalDRO_DV_RMU experiment={others}",
        "python src/train.py trainer=BalDRO_G_DPO experiment=unlearn/tofu_idk",
    )
    assert count == len(TRAINERS) + 5


@pytest.mark.generations("G2")
@pytest.mark.parametrize("benchmark", ["muse", "wmdp_rmu"])
def test_rmu_runs_on(framework: Framework, benchmark: str) -> None:
    trains(framework, ["BalDRO_DV_RMU", "BalDRO_G_RMU"], benchmark, *PIPELINES[benchmark[:4]], *OF_BASE["RMU"])


@pytest.mark.generations("G2")
def test_dpo_runs_on_second_answers(framework: Framework) -> None:
    trains(framework, ["BalDRO_DV_DPO", "BalDRO_G_DPO", "BalDRO_DV"], "tofu_idk", *PIPELINES["tofu"])


@pytest.mark.generations("G2")
def test_dpo_without_second_answers_says_so(framework: Framework) -> None:
    output = framework.run(
        str(framework.checkout / "src" / "train.py"),
        *("trainer=BalDRO_G_DPO", "experiment=unlearn/tofu", "task_name=no_answers", "~eval.tofu", *TRAIN),
        ok=False,
    )
    assert "base=DPO needs a second answer" in output
    assert "experiment=unlearn/tofu_idk" in output


@pytest.mark.generations("G2")
def test_kl_retain_loss(framework: Framework) -> None:
    framework.train(
        "-m",
        "trainer=BalDRO_DV,BalDRO_G_SimNPO",
        "experiment=unlearn/tofu",
        "task_name=kl_${hydra:runtime.choices.trainer}",
        "trainer.method_args.retain_loss_type=KL",
        "trainer.args.num_train_epochs=3",
        "trainer.args.learning_rate=1e-3",
    )
    for task in ("kl_BalDRO_DV", "kl_BalDRO_G_SimNPO"):
        losses = [step["retain_loss"] for step in framework.steps(task)]
        # The divergence from the model before unlearning starts at nothing and grows as the model moves.
        assert losses[0] == pytest.approx(0, abs=1e-5)
        assert losses[-1] > 1e-4


def test_evaluations_of_a_saved_model(framework: Framework) -> None:
    framework.train(
        "trainer=BalDRO_G", "experiment=unlearn/tofu", "task_name=to_evaluate", "trainer.args.num_train_epochs=1"
    )
    model = framework.saved("to_evaluate")
    framework.evaluate(model, "experiment=eval/tofu/default", "task_name=tofu_after")
    tofu = json.loads((framework.folder / "saves/eval/tofu_after/TOFU_SUMMARY.json").read_text())
    assert {"forget_Q_A_Prob", "extraction_strength", "model_utility"} <= tofu.keys()
    # MUSE compares with the evaluation of a model that never saw the texts; here another one.
    retrained = framework.folder / MODEL
    framework.evaluate(retrained, "experiment=eval/muse/default", "task_name=muse_retrain")
    logs = "retain_logs_path=saves/eval/muse_retrain/MUSE_EVAL.json"
    framework.evaluate(model, "experiment=eval/muse/default", "task_name=muse_after", logs)
    muse = json.loads((framework.folder / "saves/eval/muse_after/MUSE_SUMMARY.json").read_text())
    assert muse.keys() == {
        "forget_knowmem_ROUGE",
        "retain_knowmem_ROUGE",
        "forget_verbmem_ROUGE",
        "privleak",
        "extraction_strength",
    }
    assert all(math.isfinite(value) for value in muse.values())
    framework.evaluate(model, "experiment=eval/wmdp/default", "task_name=lm_after", "eval.lm_eval.tasks=[arc_easy]")
    lm_eval = json.loads((framework.folder / "saves/eval/lm_after/LMEval_SUMMARY.json").read_text())
    assert 0 <= lm_eval["arc_easy/acc"] <= 1


@pytest.mark.generations("G2")
def test_samples_without_answer_weigh_nothing_and_are_reported_once(framework: Framework) -> None:
    # A chunk length that divides the text leaves an empty chunk at its end: a sample without answer.
    from datasets import load_dataset

    tokenizer = AutoTokenizer.from_pretrained(framework.folder / MODEL)
    texts = load_dataset(str(framework.folder / "muse-bench/MUSE-News"), "raw", split="forget")["text"]
    length = len(tokenizer("\n\n".join(texts), add_special_tokens=False)["input_ids"])
    muse = (
        "experiment=unlearn/muse",
        f"data.forget.MUSE_forget.args.max_length={length}",
        "trainer.args.num_train_epochs=2",
    )
    output = framework.train(
        "trainer=BalDRO_G",
        "task_name=unlabeled",
        "trainer.args.per_device_train_batch_size=2",
        *muse,
        common=(*TRAIN[:-1], "trainer.args.logging_steps=2"),
    )
    assert len(re.findall("of the 2 forget samples have no answer token", output)) == 1
    assert "in this batch" not in output
    assert [step["unlabeled_samples"] for step in framework.steps("unlabeled")] == [2]

    # One sample per batch: every second batch has nothing to forget, and still trains the retain term.
    framework.train(
        "trainer=BalDRO_G",
        "+release=G",
        "task_name=unlabeled_batches",
        "trainer.method_args.top_fraction=1",
        "trainer.args.per_device_train_batch_size=1",
        "trainer.args.gradient_accumulation_steps=1",
        *muse,
    )
    steps = framework.steps("unlabeled_batches")
    empty = [step for step in steps if step.get("unlabeled_samples")]
    assert (len(steps), len(empty)) == (4, 2)
    for step in empty:
        assert "forget_loss_mean" not in step
        assert step["loss"] == pytest.approx(step["retain_loss"], abs=1e-3)
        assert step["grad_norm"] > 0
