"""The method at work in a few minutes: made-up authors, a small Llama that recites them, and four ways to forget.

Where open-unlearning can be had, everything that unlearns and evaluates is its own train.py and eval.py,
unchanged; elsewhere the same losses run on a plain `transformers.Trainer`. What is finished is kept, so that running
it again only fills in what is missing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from baldro_ext.tools import framework
from baldro_ext.tools.demo.outcome import Outcome
from baldro_ext.tools.git import GitError
from baldro_ext.tools.workspace.benchmarks import BENCHMARKS, lay_out

METHODS = ("NPO", "BalDRO_G", "BalDRO_DV", "BalDRO_DV_radius")


@dataclass(frozen=True)
class Result:
    """What a demo came to.

    Attributes:
        outcomes: Of the model before, the methods in the order of `METHODS`, and the model that never knew.
        picture: PNG of them.
        by_framework: Whether open-unlearning made the models and measured them.
    """

    outcomes: list[Outcome]
    picture: Path
    by_framework: bool


def run(folder: Path, seed: int = 0, say: Callable[[str], None] = print) -> Result:
    """Make the data and models in `folder`, unlearn by each method, evaluate, and draw what is left.

    Args:
        folder: Where to work.
        seed: Of the models, and of unlearning: the order of the forget samples and the draws of retain samples.
        say: Receives a line before each step.

    Raises:
        BaldroError: The folder holds something else, or a command of the framework failed.
    """
    _keep_caches_together()
    checkout = _checkout(say)
    if checkout is not None:
        say(f"Working in {folder}, with open-unlearning in {checkout}")
    say("1/3  Making 24 authors with 10 questions each, and two models: one recites all, one never saw the last four")
    logging.disable(logging.WARNING)  # deepspeed, imported with transformers, announces itself
    lay_out(BENCHMARKS["tofu"], folder, checkout, seed)
    from baldro_ext.tools.demo import picture, plain, with_framework

    logging.disable(logging.NOTSET)
    if checkout is not None:
        outcomes = with_framework.outcomes(folder, checkout, METHODS, seed, say)
    else:
        outcomes = plain.outcomes(folder, METHODS, seed, say)
    return Result(outcomes, picture.draw(outcomes, folder / "demo.png"), checkout is not None)


def _keep_caches_together() -> None:
    """Let matplotlib and torch write into the cache of this package, where there can be one."""
    for variable, place in (("MPLCONFIGDIR", "matplotlib"), ("TORCHINDUCTOR_CACHE_DIR", "torchinductor")):
        with suppress(OSError):
            (framework.cache() / place).mkdir(parents=True, exist_ok=True)
            os.environ.setdefault(variable, str(framework.cache() / place))


def _checkout(say: Callable[[str], None], requires: Sequence[str] = framework.REQUIRES) -> Path | None:
    """Return the checkout that fits what is installed; `None`, after a line that says why, where there is none."""
    try:
        generation = framework.made_for(metadata.version("transformers"))
        if lacking := [name for name in requires if framework.installed(name) is None]:
            raise framework.FrameworkError(f"it needs {', '.join(lacking)}")
        return framework.install(generation, notify=say)[0]
    except (framework.FrameworkError, GitError) as error:
        say(f"Without open-unlearning ({str(error).splitlines()[0]}): the same losses on a plain transformers.Trainer.")
        return None
