"""The pictures of a comparison, each with what to look for, or with the reason why it cannot be drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from baldro_ext.tools.compare.comparison import Comparison
from baldro_ext.tools.compare.plots import curves, distribution, tradeoff, weights
from baldro_ext.tools.compare.plots.style import DPI, styled


@dataclass(frozen=True)
class Picture:
    """A picture, or why there is none.

    Attributes:
        name: Of its files.
        title: What it shows.
        caption: What to look for.
        figure: `None` where it cannot be drawn.
        reason: Then, why.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    reason: str = ""

    def files(self) -> dict[str, bytes]:
        """Return the drawn picture as `png` and `pdf`, the same bytes each time; nothing where it was not drawn."""
        if self.figure is None:
            return {}
        # The layout is settled by the first of the two, and need not be found again.
        found = {"png": self._saved("png", Software=None)}
        self.figure.set_layout_engine("none")
        return found | {"pdf": self._saved("pdf", CreationDate=None)}

    def _saved(self, kind: str, **stamps: None) -> bytes:
        assert self.figure is not None
        output = io.BytesIO()
        with styled():
            self.figure.savefig(output, format=kind, dpi=DPI, metadata=stamps)
        return output.getvalue()


_PICTURES: tuple[tuple[str, str, str, Callable[[Comparison], Figure | str]], ...] = (
    (
        "remainder_and_utility",
        "What the worst samples keep, against what the model can still do",
        "The aim is the lower right corner. Large marks are means over seeds, small ones the seeds: where clouds "
        "overlap, the order of the methods is not settled. The grey line is the Pareto front of "
        "the means: a method off it is beaten by another in one respect and not better in the other.",
        tradeoff.remainder,
    ),
    (
        "forget_quality_and_utility",
        "Forget quality against model utility",
        "The aim is the upper right corner. Forget quality is a p-value: above the dotted line the truth ratios of the "
        "model cannot be told from those of one that never saw the forget set.",
        tradeoff.forget_quality,
    ),
    (
        "forgetting_by_sample",
        "Forgetting, sample by sample",
        "A thin line is one sample. If all fell together, the two black lines would stay close; their distance is the "
        "imbalance. Lines that stay high at the end are samples that are still remembered.",
        curves.forgetting,
    ),
    (
        "probability_by_sample",
        "Who still remembers what: all samples, before and after",
        "Follow a curve to the right: where it enters the shaded band are the worst-remembered samples. Two methods "
        "with the same mean can differ there. Samples of all seeds are pooled.",
        distribution.probability,
    ),
    (
        "extraction_by_sample",
        "How much of an answer can be extracted: all samples, before and after",
        "Extraction strength is the share of an answer that the model completes by itself: 1 is all of it. Read as the "
        "picture of probabilities.",
        distribution.extraction,
    ),
    (
        "weights_over_training",
        "How far the worst case is from the mean, over the training",
        "An effective sample size near 1 is a training on single samples, one near the number of samples in scope "
        "is plain averaging. The scope is a batch unless trainer.method_args.scope=dataset. Weights of "
        "single samples are not logged.",
        weights.concentration,
    ),
    (
        "hardest_samples",
        "Which samples were hardest, epoch by epoch",
        "A row is one sample, in the order of appearance; the largest dot of an epoch is its hardest sample. Dots that "
        "stay in their row are samples that resist; a falling staircase is a worst case that moves on.",
        weights.hardest,
    ),
)


def draw(found: Comparison) -> list[Picture]:
    """Return every picture, drawn or with the reason why not."""
    with styled():
        drawn = [(name, title, caption, make(found)) for name, title, caption, make in _PICTURES]
    return [
        Picture(name, title, caption, None, result)
        if isinstance(result, str)
        else Picture(name, title, caption, result)
        for name, title, caption, result in drawn
    ]
