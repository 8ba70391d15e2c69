"""What the framework's metrics mean: which direction is better, on which scale they vary, what they are called.

Sources: the metrics' own definitions in open-unlearning (`src/evals/metrics/`, `configs/eval/`), and TOFU
(arXiv:2401.06121) and MUSE (arXiv:2407.06460), which introduced most of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "zero"]
STATISTICS = ("worst", "largest", "variation")
"""Of the values of single samples, written behind a metric's name: `forget_Q_A_Prob.worst`."""

_DIRECTIONS: tuple[tuple[str, Better | None, str], ...] = (
    # A whole name, its better direction, and what a reader of a picture should see.
    (r"forget_quality", "higher", "forget quality (p-value)"),
    (r"model_utility", "higher", "model utility"),
    (r"forget_Q_A_Prob", "lower", "probability of the forget answer"),
    (r"forget_Q_A_ROUGE", "lower", "ROUGE of the forget answer"),
    (r"forget_Q_A_PARA_(Prob|ROUGE)", "lower", "the same of the paraphrased forget answer"),
    (r"forget_truth_ratio", "higher", "truth ratio of the forget answers"),
    (r"forget_knowmem_ROUGE", "lower", "knowledge memorisation (ROUGE)"),
    (r"forget_verbmem_ROUGE", "lower", "verbatim memorisation (ROUGE)"),
    (r"forget_balance.*", "lower", "forget balance"),
    (r"extraction_strength", "lower", "extraction strength"),
    (r"exact_memorization", "lower", "exact memorisation"),
    (r"privleak", "zero", "privacy leakage"),
    (r"(retain|ra|wf)_Q_A_(Prob|Prob_normalised|ROUGE)", "higher", "utility on other questions"),
    (r"(retain|ra|wf)_Truth_Ratio", "higher", "truth ratio of other questions"),
    (r"retain_knowmem_ROUGE", "higher", "retained knowledge (ROUGE)"),
    (r"(forget_Q_A|forget)_gibberish", "higher", "fluency of the generations"),
    (r".+/(acc|acc_norm|exact_match|f1|bleu|mc1|mc2)", "higher", "accuracy"),
    (r".+/(perplexity|word_perplexity|byte_perplexity|bits_per_byte)", "lower", "perplexity"),
)
_SHOWN_FIRST = (
    "forget_quality",
    "forget_knowmem_ROUGE",
    "forget_verbmem_ROUGE",
    "forget_verbmem_ROUGE.worst",
    "forget_Q_A_Prob",
    "forget_Q_A_Prob.worst",
    "forget_Q_A_Prob.largest",
    "extraction_strength",
    "extraction_strength.worst",
    "privleak",
    "model_utility",
    "retain_knowmem_ROUGE",
)
SMALLEST_LOG10 = math.log10(5e-324)
"""Below it a p-value is written as 0 and only its bound is known."""


@dataclass(frozen=True)
class Metric:
    """One column of a comparison.

    Attributes:
        key: As in the framework's summary; with `.worst`, `.largest` or `.variation` for a statistic of the samples.
        better: `None` where neither direction is known to be better; then nothing is marked.
        words: What it is, for pictures.
        logarithmic: Compared and averaged as log10, because it spans many orders of magnitude.
    """

    key: str
    better: Better | None
    words: str
    logarithmic: bool = False

    @property
    def base(self) -> str:
        """The framework's name, without the statistic."""
        return self.key.rpartition(".")[0] if self.statistic else self.key

    @property
    def statistic(self) -> str | None:
        """`worst`, `largest`, `variation`, or `None` for the framework's own aggregate."""
        end = self.key.rpartition(".")[2]
        return end if "." in self.key and end in STATISTICS else None

    @property
    def arrow(self) -> str:
        """The better direction as a sign."""
        return {"lower": "↓", "higher": "↑", "zero": "→0", None: ""}[self.better]

    def title(self, worst_share: float) -> str:
        """Return the head of a column: the framework's own name, the statistic, the better direction."""
        detail = {
            "worst": f"worst {100 * worst_share:g}%",
            "largest": "worst sample",
            "variation": "variation",
            None: "",
        }[self.statistic]
        name = f"log10 {self.base}" if self.logarithmic else self.base
        return " ".join(filter(None, (name, detail, self.arrow)))

    def scaled(self, value: float) -> float:
        """Return the value on the scale on which it is averaged; -inf for a p-value that is written as 0."""
        if not self.logarithmic:
            return value
        return math.log10(value) if value > 0 else -math.inf

    def gain(self, value: float, baseline: float) -> float:
        """Return by how much a scaled value is better than the baseline's: positive is better, in the scale's units."""
        if self.better == "zero":
            return abs(baseline) - abs(value)
        return baseline - value if self.better == "lower" else value - baseline


def metric(key: str) -> Metric:
    """Return what is known of a metric; of an unknown one, that no direction is known."""
    named = Metric(key, None, key)
    name = _plain(named.base)
    for pattern, better, words in _DIRECTIONS:
        if re.fullmatch(pattern, name):
            if named.statistic == "variation":
                # Even forgetting is the aim, but evenly remembering everything is even, too.
                return Metric(key, None, f"coefficient of variation of the {words}")
            return Metric(key, better, words, logarithmic=_plain(key) == "forget_quality")
    return named


def worst_is_largest(key: str) -> bool:
    """Whether the worst samples of a metric are those with the largest values, as for everything to be forgotten."""
    return metric(key).better != "higher"


def default_metrics(known: set[str]) -> list[str]:
    """Return those of the known metrics that a comparison shows unless told otherwise, in their order."""
    general = sorted(key for key in known if re.fullmatch(r".+/acc", key))
    return [key for name in _SHOWN_FIRST for key in sorted(known) if _plain(key) == name] + general


def _plain(key: str) -> str:
    """Return a metric's name without the benchmark that tells two of the same name apart: `MUSE:privleak`."""
    return key.partition(":")[2] or key
