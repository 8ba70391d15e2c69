"""`baldro run` with the real framework, and the balance of forgetting in its evaluations."""

import json
from typing import Any

import numpy as np
import pytest

from .conftest import MODEL, Framework

pytestmark = pytest.mark.framework

ATTACKS = ("leak_at_k", "extraction_strength_4bit", "forget_Q_A_Prob_4bit")
TOFU = ("extraction_strength", "exact_memorization", "forget_Q_A_Prob", "forget_Q_A_ROUGE", *ATTACKS)
MUSE = ("extraction_strength", "exact_memorization", "forget_verbmem_ROUGE", "forget_knowmem_ROUGE")
NUMBER = dict.fromkeys(MUSE[2:], "rougeL_f1") | {
    "forget_Q_A_Prob": "prob",
    "forget_Q_A_Prob_4bit": "prob",
    "forget_Q_A_ROUGE": "rougeL_recall",
}
QUICK = ["eval.tofu.metrics.leak_at_k.k=2", "eval.tofu.metrics.leak_at_k.generation_args.max_new_tokens=8"]


def read(framework: Framework, *path: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(framework.folder.joinpath("saves", *path).read_text())
    return loaded


def numbers(entry: dict[str, Any], name: str) -> np.ndarray:
    return np.array([sample[name] for sample in entry["value_by_index"].values()])


def test_one_command_unlearns_evaluates_and_records(framework: Framework) -> None:
    """The retain model, the model before, and one method: evaluated, within training too, and by lm-eval."""
    metrics = "forget_Q_A_Prob,forget_Q_A_Prob_balance"
    command = (
        *("-m", "baldro_ext.tools.cli", "run", "tops=BalDRO_G:trainer.method_args.top_fraction=0.25", "--seeds", "3"),
        *("--checkout", str(framework.checkout), "--folder", str(framework.folder), "--hardware", "cpu", "--jobs", "2"),
        *("--model", MODEL, "--retain-model", MODEL),
        *("--set", "trainer.args.num_train_epochs=1", "--set", "trainer.args.report_to=none"),
        *("--metrics", f"{metrics},forget_quality", "--every-epoch", metrics),
        *("--lm-eval", "arc_easy", "--relearn", "1e-2"),
    )
    printed = framework.run(*command)
    assert "[8/8]" in printed
    assert "baldro compare saves/eval/before saves/eval/tops_seed3" in printed.replace("seed*", "seed3")

    share: dict[str, float] = {}  # how probable the answers are that are relearned
    rest = {"forget_Q_A_Prob_rest", "extraction_strength_rest"}
    for task in ("before", "tops_seed3", "tops_relearned_seed3"):
        summary = read(framework, "eval", task, "TOFU_SUMMARY.json")
        assert summary.keys() == {"forget_Q_A_Prob", "forget_Q_A_Prob_balance", "forget_quality", *rest}
        of_all, of_rest = (
            numbers(read(framework, "eval", task, "TOFU_EVAL.json")[metric], "prob")
            for metric in ("forget_Q_A_Prob", "forget_Q_A_Prob_rest")
        )
        taught = len(of_all) // 5  # rows, the first ones
        assert of_rest == pytest.approx(of_all[taught:], rel=1e-3)
        share[task] = of_all[:taught].mean()
    folders = [f"saves/eval/{task}" for task in ("before", "tops_seed3", "tops_relearned_seed3")]
    table = framework.run("-m", "baldro_ext.tools.cli", "compare", *folders, "--metric", "forget_Q_A_Prob_rest")
    assert "tops_relearned" in table
    assert share["tops_relearned_seed3"] > 1.5 * share["tops_seed3"]
    for task in ("before", "tops_seed3"):
        assert 0 <= read(framework, "eval", task, "LMEval_SUMMARY.json")["arc_easy/acc"] <= 1
    assert read(framework, "eval", "before", "TOFU_SUMMARY.json")["forget_quality"] == 1  # the very same model
    for epoch in ("checkpoint-0", "checkpoint-1"):
        within = read(framework, "unlearn", "tops_seed3", epoch, "evals", "TOFU_EVAL.json")
        assert len(within["forget_Q_A_Prob"]["value_by_index"]) > 1

    record = read(framework, "eval", "tops_seed3", "study.json")
    assert (record["label"], record["trainer"], record["seed"]) == ("tops", "BalDRO_G", 3)
    assert (record["retain_logs"], len(record["retain_sha256"])) == ("saves/eval/tiny_forget10/TOFU_EVAL.json", 64)
    assert record["versions"]["open-unlearning"].startswith(framework.checkout.name.split("-")[1])

    assert framework.run(*command).count("done before") == 8


@pytest.mark.parametrize(
    ("benchmark", "sources", "more"), [("tofu", TOFU, ["+eval/attacks=tofu", *QUICK]), ("muse", MUSE, [])]
)
def test_the_balance_is_that_of_the_numbers_stored_beside_it(
    framework: Framework, benchmark: str, sources: tuple[str, ...], more: list[str]
) -> None:
    task = f"balance_{benchmark}"
    framework.evaluate(
        framework.folder / MODEL,
        f"experiment=eval/{benchmark}/default",
        f"eval/{benchmark}_metrics@eval.{benchmark}.{benchmark}_metrics=[extraction_strength]",
        f"+eval/balance={benchmark}",
        f"eval.{benchmark}.metrics.extraction_strength_balance.worst_share=0.5",
        f"task_name={task}",
        *more,
    )
    stored = read(framework, "eval", task, f"{benchmark.upper()}_EVAL.json")
    summary = read(framework, "eval", task, f"{benchmark.upper()}_SUMMARY.json")
    for source in sources:
        found, samples = stored[f"{source}_balance"], numbers(stored[source], NUMBER.get(source, "score"))
        share = 0.5 if source == "extraction_strength" else 0.1
        worst = np.sort(samples)[::-1][: max(1, int(share * len(samples)))]
        assert found["agg_value"] == summary[f"{source}_balance"] == pytest.approx(worst.mean())
        assert found["mean"] == pytest.approx(stored[source]["agg_value"])
        assert found["max"] == samples.max()
        assert sorted(samples[found["worst"]], reverse=True) == pytest.approx(worst)
        assert list(numbers(found, "score")) == list(samples)
        assert found["left_out"] == 0


@pytest.mark.generations("G2")
def test_a_balance_of_a_number_that_is_not_stored_names_those_that_are(framework: Framework) -> None:
    overrides = (
        "experiment=eval/tofu/default",
        "eval/tofu_metrics@eval.tofu.tofu_metrics=[forget_Q_A_Prob_balance]",
        "eval.tofu.metrics.forget_Q_A_Prob_balance.value=probability",
        f"model.model_args.pretrained_model_name_or_path={MODEL}",
        f"model.tokenizer_args.pretrained_model_name_or_path={MODEL}",
        "task_name=no_such_number",
        "+hardware=cpu_eval",
    )
    printed = framework.run(str(framework.checkout / "src" / "eval.py"), *overrides, ok=False)
    assert "value='probability': there are avg_loss, prob" in printed


def test_attacks_do_what_they_say(framework: Framework) -> None:
    assert framework.script("attacked.py").count("checked: ") >= 4
