"""The framework's metrics: which direction is better, the scale on which they are averaged, and their names in words.

Sources: the metrics' definitions in open-unlearning (`src/evals/metrics/`, `configs/eval/`), TOFU (arXiv:2401.06121)
and MUSE (arXiv:2407.06460).
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

STATISTICS = ("worst", "largest")
"""Statistics of the per-sample values, written behind a metric's name: `forget_Q_A_Prob.worst`."""
UTILITIES = ("model_utility", "retain_knowmem_ROUGE", "mmlu/acc")
PER_SAMPLE = ("forget_Q_A_Prob", "forget_verbmem_ROUGE", "extraction_strength")
OF_TASKS = ("wmdp/acc", "wmdp_cyber/acc", "wmdp_bio/acc", "wmdp_chem/acc")
_Number = TypeVar("_Number", float, pd.Series)

_KNOWN: tuple[tuple[str, str, str], ...] = (
    # A pattern for the whole name, the better direction, and the name in words.
    (r"forget_quality", "higher", "forget quality (p-value)"),
    (r"model_utility", "higher", "model utility"),
    (r"forget_Q_A_Prob(_4bit|_rest)?", "lower", "probability of the forget answer"),
    (r"forget_Q_A_ROUGE", "lower", "ROUGE of the forget answer"),
    (r"forget_Q_A_PARA_(Prob|ROUGE)", "lower", "the same for the paraphrased forget answer"),
    (r"forget_truth_ratio", "higher", "truth ratio of the forget answers"),
    (r"forget_knowmem_ROUGE", "lower", "knowledge memorisation (ROUGE)"),
    (r"forget_verbmem_ROUGE", "lower", "verbatim memorisation (ROUGE)"),
    (r".+_balance", "lower", "mean of the worst samples"),
    (r"extraction_strength(_4bit|_rest)?", "lower", "extraction strength"),
    (r"leak_at_k", "lower", "best of k sampled answers (ROUGE)"),
    (r"exact_memorization", "lower", "exact memorisation"),
    (r"privleak", "zero", "privacy leakage"),
    (r"(retain|ra|wf)_Q_A_(Prob|Prob_normalised)", "higher", "probability of other answers"),
    (r"(retain|ra|wf)_Q_A_ROUGE", "higher", "ROUGE of other answers"),
    (r"(retain|ra|wf)_Truth_Ratio", "higher", "truth ratio of other answers"),
    (r"retain_knowmem_ROUGE", "higher", "retained knowledge (ROUGE)"),
    (r"(forget_Q_A|forget)_gibberish", "higher", "fluency of the generations"),
    (r"wmdp(_\w+)?/acc(_norm)?", "lower", "accuracy on hazardous knowledge"),
    (r".+/(acc|acc_norm|exact_match|f1|bleu|mc1|mc2)", "higher", "accuracy"),
    (r".+/(perplexity|word_perplexity|byte_perplexity|bits_per_byte)", "lower", "perplexity"),
)
_SHOWN = (
    "forget_quality", "forget_knowmem_ROUGE", "forget_verbmem_ROUGE", "forget_verbmem_ROUGE.worst", "forget_Q_A_Prob",
    "forget_Q_A_Prob.worst", "forget_Q_A_Prob.largest", "extraction_strength", "extraction_strength.worst", "privleak",
    "leak_at_k.worst", "extraction_strength_4bit.worst", "forget_Q_A_Prob_4bit.worst", "extraction_strength_rest.worst",
    "forget_Q_A_Prob_rest.worst", "model_utility", "retain_knowmem_ROUGE",
)  # fmt: skip


@dataclass(frozen=True)
class Metric:
    """One metric of a comparison.

    Attributes:
        key: As in the framework's summary, or with `.worst` or `.largest` a statistic of its samples.
        better: `lower`, `higher`, `zero` for nearer to zero, or empty where no direction is known to be better.
        words: Name in words.
    """

    key: str
    better: str
    words: str

    @property
    def logarithmic(self) -> bool:
        """Whether it is averaged and compared as log10, because its values span many orders of magnitude."""
        return self.key == "forget_quality"

    def title(self, worst_share: float, name: str = "") -> str:
        """Return the column title: a name, the framework's by default, the statistic and the better direction."""
        base, statistic = _parts(self.key)
        words = {"worst": f"worst {100 * worst_share:g}%", "largest": "worst sample"}.get(statistic, statistic)
        arrow = {"lower": "↓", "higher": "↑", "zero": "→0"}.get(self.better, "")
        name = f"{name}," if name and words else name or base
        return " ".join(filter(None, ("log10" if self.logarithmic else "", name, words, arrow)))

    def scaled(self, value: float) -> float:
        """Return the value, or its log10: -inf for a p-value that was rounded to 0."""
        if not self.logarithmic or math.isnan(value):
            return value
        return math.log10(value) if value > 0 else -math.inf

    def gain(self, value: _Number, baseline: _Number) -> _Number:
        """Return by how much scaled values are better than the baseline's; positive is better."""
        if self.better == "zero":
            return abs(baseline) - abs(value)
        return baseline - value if self.better == "lower" else value - baseline


def metric(key: str) -> Metric:
    """Return what is known about a metric."""
    base, _ = _parts(key)
    better, words = next((it[1:] for it in _KNOWN if re.fullmatch(it[0], base)), ("", base))
    return Metric(key, better, words)


def default_metrics(offered: Collection[str]) -> list[str]:
    """Return the metrics that a comparison shows unless told otherwise, in their order."""
    tasks = sorted(key for key in offered if re.fullmatch(r".+/(acc|exact_match)", key))
    return [*(key for key in _SHOWN if key in offered), *tasks]


def _parts(key: str) -> tuple[str, str]:
    """Split `forget_Q_A_Prob.worst` into metric and statistic; the latter is empty for a plain metric."""
    base, _, statistic = key.rpartition(".")
    return (base, statistic) if base and statistic in STATISTICS else (key, "")
