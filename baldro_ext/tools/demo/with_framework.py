"""The demo by open-unlearning's own commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tqdm import tqdm

from baldro_ext.tools.commands import Command, Runner
from baldro_ext.tools.demo.outcome import Outcome

# Of the methods that are not a trainer's name.
_CHOICES = {
    "BalDRO_DV_radius": (
        "trainer=BalDRO_DV",
        "trainer.method_args.dv_beta=null",
        "trainer.method_args.dv_radius=0.5",
    )
}
_MODEL = "model.model_args.pretrained_model_name_or_path"
_MEASURES = {
    "extraction": "extraction_strength",
    "forget quality": "forget_quality",
    "model utility": "model_utility",
}


def outcomes(
    folder: Path, checkout: Path, methods: Sequence[str], seed: int, say: Callable[[str], None]
) -> list[Outcome]:
    """Unlearn and evaluate in a working folder with TOFU; return what the framework measured.

    Raises:
        RunError: One of the commands failed.
    """
    say("2/3  Evaluating the model that never saw the authors, with which forget quality compares")
    say(f"3/3  Evaluating the target; unlearning and evaluating with {', '.join(methods)}, two at a time")
    with tqdm(total=2 + 2 * len(methods), unit="command", dynamic_ncols=True) as bar:

        def count(line: str) -> None:
            bar.write(line)
            bar.update()

        runner = Runner(folder, checkout, count)
        runner.run(_evaluate("retain90", "models/tofu_retain90"))
        with ThreadPoolExecutor(max_workers=2) as pool:
            # One thread each: two such small models at a time are faster than one on two cores.
            jobs = [pool.submit(runner.run, _evaluate("target", "models/tofu_target"))]
            jobs += [pool.submit(_unlearn_and_evaluate, runner, method, seed) for method in methods]
            try:
                for job in as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
                raise
    return [_outcome(folder, name) for name in ("target", *methods, "retain90")]


def _unlearn_and_evaluate(runner: Runner, method: str, seed: int) -> None:
    runner.run(_unlearn(method, seed))
    runner.run(_evaluate(method, f"saves/unlearn/{method}"))


def _unlearn(method: str, seed: int) -> Command:
    return Command(
        f"unlearn with {method}",
        "train",
        (
            *_CHOICES.get(method, (f"trainer={method}",)),
            "experiment=unlearn/tofu",
            "+hardware=cpu",
            f"task_name={method}",
            f"trainer.args.seed={seed}",
            "trainer.args.learning_rate=2.5e-4",
            "trainer.args.gradient_accumulation_steps=1",
            "trainer.args.eval_on_start=false",
            "trainer.args.eval_strategy=no",
            "trainer.args.do_eval=false",
            "trainer.args.report_to=none",
        ),
        f"saves/unlearn/{method}/model.safetensors",
    )


def _evaluate(name: str, model: str) -> Command:
    reference = () if name == "retain90" else ("retain_logs_path=saves/eval/retain90/TOFU_EVAL.json",)
    return Command(
        f"evaluate {name}",
        "eval",
        (
            "experiment=eval/tofu/default",
            "+hardware=cpu_eval",
            "eval.tofu.overwrite=true",
            f"task_name={name}",
            f"{_MODEL}={model}",
            *reference,
        ),
        f"saves/eval/{name}/TOFU_SUMMARY.json",
    )


def _outcome(folder: Path, name: str) -> Outcome:
    results = folder / "saves" / "eval" / name
    summary = json.loads((results / "TOFU_SUMMARY.json").read_text())
    samples = json.loads((results / "TOFU_EVAL.json").read_text())["forget_Q_A_Prob"]["value_by_index"]
    return Outcome(
        name,
        tuple(sample["prob"] for sample in samples.values()),
        {head: summary.get(key) for head, key in _MEASURES.items()},
    )
