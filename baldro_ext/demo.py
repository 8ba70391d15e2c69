"""The method at work in a few minutes: made-up authors, a small Llama that recites them, and three ways to forget.

Everything that trains and evaluates is the framework's own train.py and eval.py, unchanged. What is finished
is kept, so that running it again only fills in what is missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from baldro_ext import framework, workspace
from baldro_ext.runs import Command, Runner

METHODS = ("NPO", "BalDRO_G", "BalDRO_DV")
_TOKENIZER = "model.tokenizer_args.pretrained_model_name_or_path=models/target"
_RETAIN_LOGS = "saves/eval/retain90/TOFU_EVAL.json"


@dataclass(frozen=True)
class Outcome:
    """What the framework measured of one model, and how evenly the samples were forgotten.

    Attributes:
        name: `target`, `retain90`, or the method.
        probability: Mean probability per token of the forget answers, between 0 and 1.
        worst_decile: Mean over the tenth of the samples with the largest.
        largest: The largest.
        extraction_strength: Between 0 and 1.
        forget_quality: p-value against the retain model; `None` where it does not apply.
        model_utility: Between 0 and 1.
    """

    name: str
    probability: float
    worst_decile: float
    largest: float
    extraction_strength: float
    forget_quality: float | None
    model_utility: float


def run(folder: Path, say: Callable[[str], None] = print) -> list[Outcome]:
    """Make the data and models in `folder`, unlearn by each method, evaluate, and return the outcomes.

    Raises:
        BaldroError: The framework cannot be had, or one of its commands failed.
    """
    checkout, _ = framework.install(framework.PRIMARY, notify=say)
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Working in {folder}, with open-unlearning {framework.PRIMARY} in {checkout}")

    say("1/3  Making 20 authors with 10 questions each, and two models: one recites all, one never saw the last two")
    workspace.make_tofu(folder, authors=20, questions=10)
    logging.disable(logging.WARNING)  # deepspeed, imported with transformers, announces itself
    make_model, rows_to_recite = workspace.make_model, workspace.rows_to_recite
    logging.disable(logging.NOTSET)
    for name, split in (("target", "full"), ("retain90", "retain90")):
        make_model(folder, name, rows=rows_to_recite(folder, split), hidden=128, vocabulary=1024)

    runner = Runner(folder, checkout, say)
    say("2/3  Evaluating both models: forget quality compares with the one that never saw the authors")
    runner.run(_evaluate("retain90", "models/retain90"))
    say(f"3/3  Evaluating the target, and unlearning and evaluating with {', '.join(METHODS)}, two at a time")
    with ThreadPoolExecutor(max_workers=2) as pool:
        # One thread each: two such small models at a time are faster than one on two cores.
        jobs = [pool.submit(runner.run, _evaluate("target", "models/target"))]
        jobs += [pool.submit(_unlearn_and_evaluate, runner, method) for method in METHODS]
        for job in jobs:
            job.result()
    return [_outcome(folder, name) for name in ("target", *METHODS, "retain90")]


def _unlearn_and_evaluate(runner: Runner, method: str) -> None:
    runner.run(_unlearn(method))
    runner.run(_evaluate(method, f"saves/unlearn/{method}"))


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as an aligned table with three significant digits."""
    head = ("", "probability", "worst decile", "largest", "extraction", "forget quality", "model utility")
    rows = [
        (
            o.name,
            *(f"{x:.3f}" for x in (o.probability, o.worst_decile, o.largest, o.extraction_strength)),
            "-" if o.forget_quality is None else f"{o.forget_quality:.2g}",
            f"{o.model_utility:.3f}",
        )
        for o in outcomes
    ]
    return tabulate(rows, head, tablefmt="plain", disable_numparse=True, colalign=("left", *["right"] * 6))


def _unlearn(method: str) -> Command:
    return Command(
        f"unlearn with {method}",
        "train",
        (
            f"trainer={method}",
            "experiment=unlearn/tofu",
            "+hardware=cpu",
            f"task_name={method}",
            "model.model_args.pretrained_model_name_or_path=models/target",
            "trainer.args.learning_rate=5e-4",
            "trainer.args.gradient_accumulation_steps=1",
            "trainer.args.eval_on_start=false",
            "trainer.args.eval_strategy=no",
            "trainer.args.do_eval=false",
            "trainer.args.report_to=none",
            _TOKENIZER,
        ),
        f"saves/unlearn/{method}/model.safetensors",
    )


def _evaluate(name: str, model: str) -> Command:
    reference = () if name == "retain90" else (f"retain_logs_path={_RETAIN_LOGS}",)
    return Command(
        f"evaluate {name}",
        "eval",
        (
            "experiment=eval/tofu/default",
            "+hardware=cpu_eval",
            "eval.tofu.overwrite=true",
            f"task_name={name}",
            f"model.model_args.pretrained_model_name_or_path={model}",
            *reference,
            _TOKENIZER,
        ),
        f"saves/eval/{name}/TOFU_SUMMARY.json",
    )


def _outcome(folder: Path, name: str) -> Outcome:
    results = folder / "saves" / "eval" / name
    summary = json.loads((results / "TOFU_SUMMARY.json").read_text())
    samples = json.loads((results / "TOFU_EVAL.json").read_text())["forget_Q_A_Prob"]["value_by_index"]
    probabilities = sorted((sample["prob"] for sample in samples.values()), reverse=True)
    tenth = probabilities[: max(1, len(probabilities) // 10)]
    return Outcome(
        name=name,
        probability=summary["forget_Q_A_Prob"],
        worst_decile=sum(tenth) / len(tenth),
        largest=probabilities[0],
        extraction_strength=summary["extraction_strength"],
        forget_quality=summary.get("forget_quality"),
        model_utility=summary["model_utility"],
    )
