"""What became of each job of a Hydra sweep over `src/train.py`, in a file, for the sweeper and for the next sweep.

`Outcome` is a Hydra callback, so it runs where the job runs and under every sweeper and launcher. At the end of a job
it writes `sweep.json` into the folder of the trained model:

    status      "done" or "failed"
    value       the objective, or null where none is asked for
    overrides   Hydra overrides of the job
    error       why it failed, or null

and hands the objective to the sweeper, which the framework's train.py, returning nothing, does not.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from baldro_ext import suggest
from baldro_ext.errors import BaldroError

FILE = "sweep.json"
logger = logging.getLogger(__name__)


class SweepError(BaldroError):
    """A job's result cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Job:
    """The content of `sweep.json`."""

    status: Literal["done", "failed"]
    overrides: tuple[str, ...]
    value: float | None = None
    error: str | None = None

    def write(self, folder: Path) -> None:
        """Write it into the folder of the trained model."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Job | None:
        """Return what is known of the job that trained into a folder."""
        file = folder / FILE
        if not file.exists():
            return None
        fields = json.loads(file.read_text())
        return cls(**{**fields, "overrides": tuple(fields["overrides"])})


class Outcome(Callback):
    """The Hydra callback of a sweep.

    Args:
        objective: What the sweeper optimises: metrics of the last evaluation during training, each with its weight, to
            be added up, as `["model_utility", "-0.5*extraction_strength"]`; empty optimises nothing.

    Raises:
        SweepError: A term of the objective is none of that form.
    """

    def __init__(self, objective: Iterable[str] = ()) -> None:
        self.objective = dict(_term(text) for text in objective)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write what became of the job, and give the sweeper its value."""
        folder, overrides = Path(config.paths.output_dir), tuple(config.hydra.overrides.task)
        try:
            job_return.return_value = value = self._value(folder, job_return)
        except Exception as error:  # whatever the framework raised
            job_return.status, job_return.return_value = JobStatus.FAILED, error
            logger.error("%s failed, see %s", folder.name, log_file(config.hydra, config), exc_info=error)
            Job("failed", overrides, error=f"{type(error).__name__}: {error}").write(folder)
        else:
            logger.info("%s is done%s", folder.name, "" if value is None else f": {value:.4g}")
            Job("done", overrides, value).write(folder)

    def _value(self, folder: Path, job_return: JobReturn) -> float | None:
        if job_return.status is JobStatus.FAILED:
            raise job_return._return_value  # by its property, Hydra would print the overrides once more
        if not self.objective:
            return None
        summary = last_summary(folder)
        if missing := self.objective.keys() - summary.keys():
            name = min(missing)
            there = suggest.known(name, summary)
            raise SweepError(f"the objective asks for {name!r}, which was not evaluated: {there}")
        return sum(weight * summary[name] for name, weight in self.objective.items())


def _term(text: str) -> tuple[str, float]:
    """Return metric and weight: of `-0.5*model_utility`, `("model_utility", -0.5)`."""
    match = re.fullmatch(r"(-?)(?:([\d.]+(?:e[+-]?\d+)?)\*)?([A-Za-z][\w/]*)", text.strip())
    if not match:
        raise SweepError(f"{text!r} is no term of an objective: use a metric and its weight, as in -0.5*model_utility")
    return match[3], float(f"{match[1]}{match[2] or 1}")


def log_file(hydra: DictConfig, config: DictConfig) -> Path:
    """Return where the framework's configuration of logs puts a job's."""
    return Path(hydra.runtime.output_dir) / f"{config.trainer.handler}.log"


def last_summary(folder: Path) -> dict[str, float]:
    """Return the metrics of the last evaluation that a training made.

    Raises:
        SweepError: It made none.
    """
    files = list(folder.glob("checkpoint-*/evals/*_SUMMARY.json"))
    if not files:
        raise SweepError(
            f"{folder} has no evaluation to optimise: let the training evaluate itself, by "
            "trainer.args.eval_strategy=epoch"
        )
    last = max(_step(file) for file in files)
    summary: dict[str, float] = {}
    for file in files:
        if _step(file) == last:
            summary |= json.loads(file.read_text())
    return summary


def _step(summary: Path) -> int:
    return int(re.sub(r"\D", "", summary.parts[-3]))
