"""What differs between the framework's benchmarks: names of configurations, splits and result files."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from baldro_ext import suggest
from baldro_ext.tools.run.methods import StudyError


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the framework.

    Attributes:
        name: As its result files begin: `TOFU` of `TOFU_SUMMARY.json`.
        suite: Key of its evaluator below `eval`.
        evaluation: Its experiment for `src/eval.py`.
        model: The model configuration that its experiments choose.
        split: The data split that its experiments choose.
        metrics: The configuration group of its metrics, and where it stands; `None` where they cannot be chosen.
        needs_retain: Whether it compares with the evaluation of a model that never saw the forget set.
        train_split: The overrides by which a training is given a split.
        eval_split: Those by which an evaluation is.
    """

    name: str
    suite: str
    evaluation: str
    model: str
    split: str
    metrics: str | None
    needs_retain: bool
    train_split: Callable[[str], tuple[str, ...]]
    eval_split: Callable[[str], tuple[str, ...]]

    @property
    def summary(self) -> str:
        """Name of the file with one number per metric."""
        return f"{self.name}_SUMMARY.json"

    @property
    def samples(self) -> str:
        """Name of the file with one number per sample, which the retain model's evaluation is read from."""
        return f"{self.name}_EVAL.json"


def of(experiment: str) -> Benchmark:
    """Return the benchmark of an experiment, as `unlearn/tofu` or the framework's `unlearn/tofu/default`.

    Raises:
        StudyError: It is none of a known benchmark.
    """
    known = {benchmark.evaluation.split("/")[1]: benchmark for benchmark in (TOFU, MUSE, WMDP)}
    parts = experiment.split("/")
    name = parts[1] if len(parts) > 1 and parts[0] == "unlearn" else experiment
    if name not in known or parts[0] != "unlearn":
        options = [f"unlearn/{name}" for name in known]
        raise StudyError(
            f"cannot tell the benchmark of experiment {experiment!r}: {suggest.known(experiment, options)}"
        )
    return known[name]


def _tofu_eval(split: str) -> tuple[str, ...]:
    percent = _percent(split)
    return (f"forget_split={split}", f"holdout_split=holdout{percent:02d}")


def _tofu_train(split: str) -> tuple[str, ...]:
    return (*_tofu_eval(split), f"retain_split=retain{100 - _percent(split):02d}")


def _percent(split: str) -> int:
    if not (match := re.fullmatch(r"forget(\d\d)", split)):
        raise StudyError(f"split={split!r} is no forget set of TOFU: use forget01, forget05 or forget10")
    return int(match[1])


def _data_split(split: str) -> tuple[str, ...]:
    return (f"data_split={split}",)


TOFU = Benchmark(
    name="TOFU",
    suite="tofu",
    evaluation="eval/tofu/default",
    model="Llama-3.2-1B-Instruct",
    split="forget10",
    metrics="eval/tofu_metrics@eval.tofu.tofu_metrics",
    needs_retain=True,
    train_split=_tofu_train,
    eval_split=_tofu_eval,
)
MUSE = Benchmark(
    name="MUSE",
    suite="muse",
    evaluation="eval/muse/default",
    model="Llama-2-7b-hf",
    split="News",
    metrics="eval/muse_metrics@eval.muse.muse_metrics",
    needs_retain=True,
    train_split=_data_split,
    eval_split=_data_split,
)
WMDP = Benchmark(
    name="LMEval",
    suite="lm_eval",
    evaluation="eval/wmdp/default",
    model="zephyr-7b-beta",
    split="cyber",
    metrics=None,
    needs_retain=False,
    train_split=_data_split,
    eval_split=_data_split,
)
