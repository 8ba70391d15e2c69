"""The method at work in a few minutes: made-up authors, a small Llama that recites them, and three ways to forget.

Everything that trains and evaluates is the framework's own train.py and eval.py, unchanged. What is finished
is kept, so that running it again only fills in what is missing.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from baldro_ext import framework, workspace
from baldro_ext.errors import BaldroError

METHODS = ("NPO", "BalDRO_G", "BalDRO_DV")
_TOKENIZER = ("model.tokenizer_args.pretrained_model_name_or_path=models/target",)
_RETAIN_LOGS = "saves/eval/retain90/TOFU_EVAL.json"


class DemoError(BaldroError):
    """A command of the demo failed; the message names its log."""


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

    shell = _Shell(folder, checkout, say)
    say("2/3  Evaluating both models: forget quality compares with the one that never saw the authors")
    shell.evaluate("retain90", "models/retain90")
    say(f"3/3  Evaluating the target, and unlearning and evaluating with {', '.join(METHODS)}, two at a time")
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [pool.submit(shell.evaluate, "target", "models/target")]
        jobs += [pool.submit(shell.unlearn_and_evaluate, method) for method in METHODS]
        for job in jobs:
            job.result()
    return [_outcome(folder, name) for name in ("target", *METHODS, "retain90")]


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
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in (head, *rows)
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class _Shell:
    """The framework's two commands, typed in the demo's folder."""

    folder: Path
    checkout: Path
    say: Callable[[str], None]

    def unlearn_and_evaluate(self, method: str) -> None:
        self._python(
            f"unlearn with {method}",
            f"saves/unlearn/{method}/model.safetensors",
            "train",
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
        )
        self.evaluate(method, f"saves/unlearn/{method}")

    def evaluate(self, name: str, model: str) -> None:
        reference = () if name == "retain90" else (f"retain_logs_path={_RETAIN_LOGS}",)
        self._python(
            f"evaluate {name}",
            f"saves/eval/{name}/TOFU_SUMMARY.json",
            "eval",
            "experiment=eval/tofu/default",
            "+hardware=cpu_eval",
            "eval.tofu.overwrite=true",
            f"task_name={name}",
            f"model.model_args.pretrained_model_name_or_path={model}",
            *reference,
        )

    def _python(self, what: str, result: str, script: str, *overrides: str) -> None:
        """Run a command unless the same one has made its result already; its log begins with it."""
        log = self.folder / "logs" / f"{what.replace(' ', '_')}.log"
        command = [sys.executable, str(self.checkout / "src" / f"{script}.py"), *overrides, *_TOKENIZER]
        first_line = " ".join(command) + "\n"
        if (self.folder / result).exists() and log.exists() and log.read_text(errors="replace").startswith(first_line):
            self.say(f"     {what}: done before")
            return
        log.parent.mkdir(exist_ok=True)
        (self.folder / result).unlink(missing_ok=True)
        started = time.monotonic()
        with log.open("w") as output:
            output.write(first_line)
            output.flush()
            # One thread each: two such small models at a time are faster than one on two cores.
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        if done.returncode:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise DemoError(
                f"cannot {what} (exit code {done.returncode}): the whole output is in {log}, its end is\n{last}"
            )
        self.say(f"     {what}: {time.monotonic() - started:.0f} s")


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
