"""Random cases of the whole kernel, from the model to its gradient, against an oracle in numpy and float64.

A seed decides everything about a case: `check(Case.drawn(seed))` runs one. The oracle takes one thing from the package:
its losses, compared with the oracle's own first, are what the oracle chooses weights by. Weights jump at ties and
boundaries, so that from losses of its own it would choose others whenever the last bit of a loss differs.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pprint import pformat
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import expit, logsumexp
from torch import Tensor, nn

from baldro_ext import ChiSquare, DonskerVaradhan, TopGroup
from baldro_ext.adversary import Adversary
from baldro_ext.answers import IGNORE_INDEX, Answers
from baldro_ext.data import SAMPLES, Samples
from baldro_ext.forward import AnswerForward, rows_of
from baldro_ext.losses import FORGET_LOSSES, ForgetLoss, TokenAveraged
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.state import SampleState
from baldro_ext.weightings import Weighting

from .test_robust_loss import Term

CHUNKS = [range(start, start + 250) for start in range(0, 10_000, 250)]
VOCABULARY, WIDTH, LONGEST = 7, 3, 8

# Models.


class Causal(nn.Module):
    """A linear head on sums of embeddings that halve with each step back.

    Parameters are multiples of 1/16, so that sums are exact in float64 in whatever order they are taken: logits do not
    depend on which positions were asked for, and equal samples have equal ones. Where there is only padding to look
    at, a model may say not a number.
    """

    shifted: ClassVar[bool] = False

    def __init__(self, embedding: Tensor, head: Tensor, dtype: torch.dtype, nan_padding: bool) -> None:
        super().__init__()
        self.embedding, self.head = nn.Parameter(embedding), nn.Parameter(head)
        self.dtype, self.nan_padding = dtype, nan_padding

    def scores(self, ids: Tensor, mask: Tensor, kept: Any = slice(None), shift: Tensor | None = None) -> Tensor:
        """Logits before they are rounded, float64."""
        steps = torch.arange(ids.shape[1], dtype=torch.float64)
        decay = (2 ** (steps - steps[:, None])).tril()
        hidden = decay @ (self.embedding[ids] * mask[..., None])
        return hidden[:, kept] @ self.head + (0 if shift is None else shift)

    def read(self, ids: Tensor, mask: Tensor, kept: Any, shift: Tensor | None = None) -> SimpleNamespace:
        logits = self.scores(ids, mask, kept, shift)
        if self.nan_padding:  # added, so that a gradient that is not a number would come through
            logits = logits + torch.where(mask[:, kept] == 0, torch.nan, 0.0)[..., None]
        return SimpleNamespace(logits=logits.to(self.dtype))


class Plain(Causal):
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return self.read(input_ids, attention_mask, slice(None))


class Last(Causal):
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = True, logits_to_keep: int = 0
    ) -> SimpleNamespace:
        assert not use_cache
        return self.read(input_ids, attention_mask, slice(-logits_to_keep, None))


class Older(Causal):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, num_logits_to_keep: int = 0) -> SimpleNamespace:
        return self.read(input_ids, attention_mask, slice(-num_logits_to_keep, None))


class Positions(Causal):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int | Tensor = 0) -> SimpleNamespace:
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return self.read(input_ids, attention_mask, kept)


class Shifted(Causal):
    """Takes something of another shape than the tokens, so that they may not be cut off."""

    shifted = True

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, shift: Tensor, logits_to_keep: int | Tensor = 0
    ) -> SimpleNamespace:
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return self.read(input_ids, attention_mask, kept, shift)


class Replicated(Positions):
    """Called through `InParallel`, which may not be given positions."""


class InParallel(nn.DataParallel[Causal]):
    """One replica, and on the CPU even where there are GPUs."""

    def __init__(self, model: Causal) -> None:
        nn.Module.__init__(self)
        self.module = model

    def forward(self, **inputs: Any) -> SimpleNamespace:
        assert not isinstance(inputs["logits_to_keep"], Tensor)
        return self.module(**inputs)


# Cases.

MODELS: list[type[Causal]] = [Plain, Last, Older, Positions, Shifted, Replicated]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]

LOSSES: dict[str, Callable[[random.Random], dict[str, float]]] = {
    "NPO": lambda rng: {"beta": 10 ** rng.uniform(-1.3, 0)},
    "SimNPO": lambda rng: {"beta": rng.uniform(0.5, 6), "delta": rng.choice([0.0, rng.uniform(-2, 2)])},
    "SatImp": lambda rng: {
        "beta1": rng.choice([0.0, 1.0, 5.0, rng.uniform(0, 6)]),
        "beta2": rng.choice([0.0, 1.0, rng.uniform(0, 3)]),
    },
    "GradDiff": lambda rng: {},
}
"""Of each loss over the log-probabilities of one answer; tests/test_losses.py has the others."""
USUAL = {"NPO": (0, 30), "SimNPO": (0, 2), "SatImp": (-0.3, 0), "GradDiff": (-6, 0), "nll": (-6, 0)}
"""Where losses and hardness mostly lie: what is drawn for samples that are not in the micro-batch."""


def some_fraction(rng: random.Random) -> float:
    return rng.choice([rng.randint(1, 1000) / 1000, rng.randint(1, 12) / 12, 1 / rng.randint(1, 12), 0.5, 1.0])


WEIGHTINGS: dict[str, Callable[[random.Random], Weighting]] = {
    "DV by beta": lambda rng: DonskerVaradhan(
        beta=rng.choice([1, 1, 1, -1]) * rng.choice([10 ** rng.uniform(-2, 3)] * 6 + [math.inf])
    ),
    "DV by radius": lambda rng: DonskerVaradhan(radius=rng.choice([10 ** rng.uniform(-6, 0.3)] * 5 + [0.0, 5.0, 50.0])),
    "G exact": lambda rng: TopGroup(some_fraction(rng)),
    "G floor": lambda rng: TopGroup(some_fraction(rng), "floor"),
    "chi-square": lambda rng: ChiSquare(rng.choice([10 ** rng.uniform(-6, 0.3)] * 4 + [0.0, 5.0, 50.0])),
}
PLACES = [("sample", "batch"), ("sample", "dataset"), ("token", "batch")]
COMBINATIONS = [
    (loss, weighting, hardness, unit, scope)
    for loss, weighting, hardness, (unit, scope) in product(LOSSES, WEIGHTINGS, ["loss", "nll"], PLACES)
    if unit == "sample" or issubclass(FORGET_LOSSES[loss], TokenAveraged)
]


@dataclass(frozen=True)
class Case:
    """A micro-batch, a model, and what is known of the forget set; all that the loss depends on.

    Attributes:
        embedding, head: Of the model, in sixteenths.
        samples: Tokens, and which of them are labels, for each row of the batch.
        filler: The token of the padding.
        index: The rows' places in the forget set; one may come twice.
        losses, hardness: Of the whole forget set before the micro-batch; not a number where unknown.
        reference: Of each row, in nats; a multiple of 1/64, which float32 holds too.
        gamma: What the loss is multiplied by before its gradient is taken; a power of 2, so that it rounds nothing.
    """

    seed: int
    loss: ForgetLoss
    weighting: Weighting
    hardness: Literal["loss", "nll"]
    unit: Literal["sample", "token"]
    scope: Literal["batch", "dataset"]
    dtype: torch.dtype
    model: type[Causal]
    embedding: list[list[int]]
    head: list[list[float]]
    nan_padding: bool
    side: Literal["left", "right"]
    filler: int
    samples: list[tuple[list[int], list[bool]]]
    index: list[int]
    losses: list[float]
    hardness_before: list[float]
    reference: list[float]
    may_skip: bool
    gamma: float

    @classmethod
    def drawn(cls, seed: int) -> Case:
        rng = random.Random(seed)
        loss, weighting, hardness, unit, scope = COMBINATIONS[seed % len(COMBINATIONS)]
        nan_padding, side = rng.random() < 0.25, rng.choice(["left", "right"])
        size = rng.randint(6, 14)
        unlabeled = rng.choice([0, 0, 0.3, 0.3, 0.3, 1] if rng.random() < 0.25 else [0, 0.2])
        samples, index, reference = list[tuple[list[int], list[bool]]](), list[int](), list[float]()
        free = rng.sample(range(size), size)
        for _ in range(rng.randint(1, 6)):
            if samples and rng.random() < 0.3:  # the like of one that is there, or that one again
                twin = rng.randrange(len(samples))
                samples.append(samples[twin])
                reference.append(reference[twin])
                index.append(index[twin] if rng.random() < 0.3 else free.pop())
                continue
            tokens = [rng.randrange(VOCABULARY) for _ in range(rng.randint(1, LONGEST))]
            labels = _labels(rng, len(tokens), unlabeled)
            if nan_padding:  # a first token would be predicted by padding on its left
                labels[0] = False
            samples.append((tokens, labels))
            reference.append(round(-sum(labels) * rng.uniform(0, 3) * 64) / 64)
            index.append(free.pop())
        scale = rng.choice([0, 0.25, 1, 1, 1, 4])
        steps = rng.choice([1e-9, 0.25])  # the coarser one makes ties
        before = [[_level(rng, USUAL[name], steps) for _ in range(size)] for name in (loss, "nll")]
        case = cls(
            seed=seed,
            loss=FORGET_LOSSES[loss](**LOSSES[loss](rng)),
            weighting=WEIGHTINGS[weighting](rng),
            hardness=hardness,  # type: ignore[arg-type]
            unit=unit,  # type: ignore[arg-type]
            scope=scope,  # type: ignore[arg-type]
            dtype=rng.choice(DTYPES),
            model=rng.choice(MODELS),
            embedding=[[rng.randint(-32, 32) for _ in range(WIDTH)] for _ in range(VOCABULARY)],
            head=[[rng.randint(-32, 32) * scale for _ in range(VOCABULARY)] for _ in range(WIDTH)],
            nan_padding=nan_padding,
            side=side,  # type: ignore[arg-type]
            filler=rng.randrange(VOCABULARY),
            samples=samples,
            index=index,
            losses=before[0],
            hardness_before=before[0] if hardness == "loss" else before[1],
            reference=reference,
            may_skip=rng.random() < 0.5,
            gamma=rng.choice([1.0, 0.25, -2.0]),
        )
        labeled = dict(zip(index, case.labels()[:, 1:].ne(IGNORE_INDEX).any(-1).tolist(), strict=True))
        chosen_before = scope == "dataset" and isinstance(case.weighting, TopGroup)
        for place in range(size):
            # The scoring pass leaves only samples without an answer unknown; a soft maximum needs no such pass.
            missing = rng.random() < 0.15
            if (not chosen_before and missing) if labeled.get(place) else (missing or place in labeled):
                case.losses[place] = case.hardness_before[place] = math.nan
        return case

    def padded(self, rows: list[list[int]], filler: int) -> Tensor:
        length = max(map(len, rows))
        pads = [[filler] * (length - len(row)) for row in rows]
        return torch.tensor([p + r if self.side == "left" else r + p for r, p in zip(rows, pads, strict=True)])

    def labels(self) -> Tensor:
        rows = [[t if on else IGNORE_INDEX for t, on in zip(*sample, strict=True)] for sample in self.samples]
        return self.padded(rows, IGNORE_INDEX)

    def batch(self) -> dict[str, Any]:
        labels = self.labels()
        return {
            "input_ids": self.padded([tokens for tokens, _ in self.samples], self.filler),
            "attention_mask": self.padded([[1] * len(tokens) for tokens, _ in self.samples], 0),
            "labels": labels,
            # Multiples of 1/64, so that sums stay exact; three dimensions, because labels may happen to be (B, V).
            "shift": torch.tensor(self.reference, dtype=torch.float64)[:, None, None] * (torch.arange(VOCABULARY) % 2),
            SAMPLES: Samples(torch.tensor(self.index), labels != IGNORE_INDEX),
        }

    def build(self, size_of: Callable[[Tensor], Tensor] = lambda numbers: numbers) -> Causal:
        embedding, head = (torch.tensor(rows, dtype=torch.float64) / 16 for rows in (self.embedding, self.head))
        return self.model(size_of(embedding), size_of(head), self.dtype, self.nan_padding)


def _labels(rng: random.Random, length: int, unlabeled: float) -> list[bool]:
    if rng.random() < unlabeled:
        return [False] * length
    start, density = rng.choice([0, length // 2, rng.randrange(length)]), rng.choice([1, 1, 0.5])
    return [place >= start and rng.random() < density for place in range(length)]


def _level(rng: random.Random, bounds: tuple[float, float], steps: float) -> float:
    width = bounds[1] - bounds[0]
    return bounds[0] + width * round(rng.random() / steps) * steps


# The oracle; x `(..., K)` are the log-probabilities of one answer.

Array = np.ndarray[Any, np.dtype[np.float64]]


def loss_and_slopes(loss: Any, x: Array, reference: float) -> tuple[Array, Array]:
    """Loss `(...)` and its derivatives by log-probabilities `(..., K)`, what a paper detaches held fixed."""
    length, ones = x.shape[-1], np.ones_like(x)
    match type(loss).__name__:
        case "NPO":  # (2/b) log(1 + (pi / pi_ref)^b)
            z = loss.beta * (x.sum(-1) - reference)
            return 2 / loss.beta * np.logaddexp(0, z), 2 * expit(z)[..., None] * ones
        case "SimNPO":  # -(2/b) log sigmoid(-(b/|y|) log pi - b delta)
            z = loss.beta * (x.sum(-1) / length + loss.delta)
            return 2 / loss.beta * np.logaddexp(0, z), 2 * expit(z)[..., None] * ones / length
        case "SatImp":  # mean of p^b1 (1-p)^b2 log p
            factor = np.exp(loss.beta1 * x) * (-np.expm1(x)) ** loss.beta2
            return (factor * x).sum(-1) / length, factor / length
        case "GradDiff":
            return x.sum(-1) / length, ones / length
    raise NotImplementedError(f"write the oracle of {loss}")


def means(loss: Any, x: Array, reference: float) -> tuple[Array, Array]:
    """The hardness `nll`."""
    return x.sum(-1) / x.shape[-1], np.ones_like(x) / x.shape[-1]


def with_errors(of: Any, loss: Any, x: Array, error: Array, reference: float, precision: Any) -> list[Array]:
    """Value, slopes, and how much each moves while one log-probability after the other moves by its error, up and down.

    That is how errors in log-probabilities propagate, without a word on how the formula is evaluated. For its own
    roundings, a few per result, 8 units more; and nothing is told from 0 below the smallest normal number.
    """
    value, slopes = of(loss, x, reference)
    moved = np.minimum(x + np.concatenate([np.diag(error), -np.diag(error)]), 0)
    values, others = of(loss, moved, reference)
    return [
        value,
        slopes,
        abs(values - value).sum() + 8 * precision.eps * abs(value) + precision.tiny,
        abs(others - slopes).sum(0) + 8 * precision.eps * abs(slopes) + precision.tiny,
    ]


def worst_case(weighting: Weighting, l: Array) -> tuple[Array, float]:  # noqa: E741
    """Weights and value, from the definitions."""
    n = len(l)
    even = np.full(n, 1 / n)
    if isinstance(weighting, TopGroup):
        w = filled(l, weighting)
    elif isinstance(weighting, ChiSquare):
        w = even if weighting.radius == 0 else within_ball(l, weighting.radius)
    elif weighting.beta is not None:
        if math.isinf(weighting.beta):
            return even, l.mean()
        log_sum = logsumexp(l / weighting.beta)
        return np.exp(l / weighting.beta - log_sum), weighting.beta * (log_sum - math.log(n))
    else:
        w = even if weighting.radius == 0 else tilted_to(l, weighting.radius or 0)
    return w, w @ l


def filled(l: Array, group: TopGroup) -> Array:  # noqa: E741
    """Fill the group from the largest loss down, in fractions; samples that are equal get equal parts of what is left.

    The fraction is the one that was meant: 1/3 or 0.07, not the float next to it. `exact` means that to 9 digits.
    """
    size = max(round(Fraction(group.fraction).limit_denominator(10**6) * len(l), 9), Fraction(1))
    left = whole = Fraction(math.floor(size)) if group.size == "floor" else size
    w = np.zeros(len(l))
    for level in sorted(set(l.tolist()), reverse=True):
        tied = l == level
        taken = min(left, Fraction(int(tied.sum())))
        w[tied] = float(taken / int(tied.sum()) / whole)
        left -= taken
    return w


def tilted_to(l: Array, radius: float) -> Array:  # noqa: E741
    """Find the tilt at which KL to uniform is the radius, or even weights on the largest losses, by root finding."""
    n, d = len(l), l - l.max()
    if radius >= math.log(n / (d == 0).sum()):
        return (d == 0) / (d == 0).sum()

    def excess(log_slope: float) -> float:
        e = np.exp(np.exp(log_slope) * d)
        return float(np.exp(log_slope) * (e @ d) / e.sum() - np.log(e.mean())) - radius

    low = high = -math.log(-d.min())
    while excess(low) > 0:
        low -= 1
    while excess(high) < 0:
        high += 1
    e = np.exp(np.exp(brentq(excess, low, high, xtol=1e-14, maxiter=500)) * d)
    return e / e.sum()


def within_ball(l: Array, radius: float) -> Array:  # noqa: E741
    """Find the distance from the largest loss at which weights end, by root finding, or put all on the largest."""
    n, d = len(l), l.max() - l
    if radius >= (n / (d == 0).sum() - 1) / 2 * (1 - 1e-13):
        return (d == 0) / (d == 0).sum()

    def at(log_reach: float) -> Array:
        w = np.maximum(0, 1 - d / np.exp(log_reach))
        return w / w.sum()

    def excess(log_reach: float) -> float:
        return float(((n * at(log_reach) - 1) ** 2).sum() / (2 * n)) - radius

    low = high = math.log(d.max())
    while excess(low) < 0:
        low -= 1
    while excess(high) > 0:
        high += 1
    return at(brentq(excess, low, high, xtol=1e-15, maxiter=500))


@dataclass(frozen=True)
class Expected:
    """What the oracle says of a case, given the losses and hardness of the units of Q that passed the model.

    Attributes:
        share: What each unit's loss is weighed with.
        value: The robust loss.
        scale: Size of the numbers that the value is a difference of.
    """

    share: Array
    value: float
    scale: float

    @classmethod
    def over_the_batch(cls, case: Case, losses: Array, hardness: Array) -> Expected:
        share, value = worst_case(case.weighting, hardness)
        return cls(share, value if case.hardness == "loss" else share @ losses, _scale(case, losses))

    @classmethod
    def over_tokens_of_samples(cls, case: Case, losses: Array, hardness: Array, owner: Array) -> Expected:
        """Samples are chosen, and each of their tokens counts like any other."""
        _, first, back = np.unique(owner, return_index=True, return_inverse=True)
        share = worst_case(case.weighting, hardness[first])[0][back]
        share = share / share.sum()
        return cls(share, share @ losses, _scale(case, losses))

    @classmethod
    def over_the_set(cls, case: Case, trained: dict[int, tuple[float, float]], places: list[int]) -> Expected:
        """A group is chosen by what was known before; a soft maximum by what is known now."""
        before, now = chosen_before(case), [np.array(case.losses), np.array(case.hardness_before)]
        for place, numbers in trained.items():
            for column, number in zip(now, numbers, strict=True):
                column[place] = number
        known = ~np.isnan(now[0])
        q, value = np.zeros(len(known)), math.nan
        if before is None:
            q[known], value = worst_case(case.weighting, now[1][known])
        else:
            q = before
        if before is not None or case.hardness == "nll":
            value = q[known] @ now[0][known]
        share = q[places] * known.sum() / len(places)
        return cls(share, value, _scale(case, now[0][known]))


def chosen_before(case: Case) -> Array | None:
    """Q over the forget set where it does not wait for the micro-batch's own losses."""
    if case.scope == "batch" or not isinstance(case.weighting, TopGroup) or case.weighting.fraction == 1:
        return None
    hardness = np.array(case.hardness_before)
    q, known = np.zeros(len(hardness)), ~np.isnan(hardness)
    if known.any():
        q[known] = worst_case(case.weighting, hardness[known])[0]
    return q


def _scale(case: Case, losses: Array) -> float:
    beta = getattr(case.weighting, "beta", None)
    return float(abs(losses).max()) + (abs(beta) if beta and math.isfinite(beta) else 0)


# The comparison.


@dataclass(frozen=True)
class Outcome:
    """What the package made of a case.

    Attributes:
        losses, hardness: What it chose weights by, as floats: one of each row, not a number where a row did not pass
            the model; where Q ranges over tokens, one of each answer token.
    """

    term: Term
    state: SampleState
    losses: Array
    hardness: Array
    mask: Tensor | None


def run(case: Case, model: Causal, batch: dict[str, Any]) -> Outcome:
    """What `BalDROMixin.compute_loss` does with the forget half of a batch."""
    samples, known = batch[SAMPLES], zip(case.losses, case.hardness_before, strict=True)
    numbers = torch.tensor(list(known), dtype=torch.float64)
    state = SampleState(*numbers.unbind(1), torch.zeros(len(numbers), dtype=torch.bool))
    reference = None
    if case.loss.needs_reference:
        state.reference = torch.zeros(len(numbers), dtype=torch.float64)
        state.reference[samples.index] = torch.tensor(case.reference, dtype=torch.float64)
        reference = state.reference[samples.index]
    adversary = Adversary(
        case.weighting,
        len(numbers),
        scope=case.scope,
        unit=case.unit,
        by_loss=case.hardness == "loss",
    )
    adversary.state = state
    forward, passes = AnswerForward.of(model), list[tuple[Tensor, Answers]]()
    called = InParallel(model) if case.model is Replicated else model

    def answers_of(rows: Tensor) -> Answers:
        answers, _ = forward(called, rows_of(batch, rows), samples.answers[rows])
        passes.append((rows, answers))
        return answers

    robust = RobustLoss(case.loss, adversary)
    term = Term(*robust(answers_of, samples.index, samples.labeled, reference, may_skip=case.may_skip))
    if case.unit == "token":
        assert isinstance(case.loss, TokenAveraged)
        [(_, answers)] = passes
        losses = case.loss.token_losses(answers)
        hardness = losses if case.hardness == "loss" else answers.means[:, None].expand_as(losses)
        return Outcome(term, state, *(_exact(numbers[answers.mask]) for numbers in (losses, hardness)), answers.mask)
    both = np.full((2, len(case.index)), math.nan)
    for rows, answers in passes[:1]:  # weights are chosen by the first pass; in a second the last bit may be another
        own = case.loss(answers, None if reference is None else reference[rows].to(answers.tokens.dtype))
        both[:, rows.numpy()] = _exact(own), _exact(own if case.hardness == "loss" else answers.means)
    return Outcome(term, state, *both, None)


def _exact(numbers: Tensor) -> Array:
    return numbers.detach().double().numpy()


def check(case: Case) -> None:
    model, batch = case.build(), case.batch()
    outcome = run(case, model, batch)
    term = outcome.term

    # Log-probabilities from all logits, as the model rounds them, in float64.
    inputs = (batch["input_ids"], batch["attention_mask"], slice(None), batch["shift"] if case.model.shifted else None)
    scores = model.scores(*inputs)
    logits = scores.detach().to(case.dtype).double().numpy()
    everything = logits - logsumexp(logits, axis=-1, keepdims=True)
    labels = batch["labels"].numpy()
    owner, place = (labels[:, 1:] != IGNORE_INDEX).nonzero()
    target = labels[owner, place + 1]
    x = everything[owner, place, target]
    labeled = np.unique(owner)
    assert batch[SAMPLES].labeled.sum() == len(labeled)

    # The package takes them in float32, or float64 where logits are. A log-softmax errs by a few units in the last
    # place of the largest of its numbers, and a sum over an answer by one of each of its terms: 8 cover both.
    precision = torch.finfo(torch.promote_types(case.dtype, torch.float32))
    error = 8 * precision.eps * (1 + abs(logits[owner, place]).max(-1) + abs(x))

    def by_sample(of: Any, row: int) -> list[Array]:
        own = owner == row
        return with_errors(of, case.loss, x[own], error[own], case.reference[row], precision)

    # Losses and hardness of every unit of Q, and the package's own.
    if case.unit == "sample":
        units = [by_sample(loss_and_slopes, row) for row in labeled]
        chosen = chosen_before(case)
        trained = [k for k, row in enumerate(labeled) if chosen is None or chosen[case.index[row]] > 0]
        rows = labeled[trained]
        own, own_hardness = outcome.losses[rows], outcome.hardness[rows]
        recorded = [
            _exact(column)[np.array(case.index)[rows]] for column in (outcome.state.losses, outcome.state.hardness)
        ]
    else:
        units = [with_errors(loss_and_slopes, case.loss, x[[k]], error[[k]], 0, precision) for k in range(len(x))]
        trained, rows = list(range(len(x))), owner
        own, own_hardness = recorded = [outcome.losses, outcome.hardness]
    of_loss = [units[k] for k in trained]
    of_hardness = of_loss if case.hardness == "loss" else [by_sample(means, row) for row in rows]
    for found, wanted in zip([own, own_hardness, *recorded], [of_loss, of_hardness] * 2, strict=True):
        for number, (value, _, moved, _) in zip(found, wanted, strict=True):
            assert abs(number - value) <= moved, f"loss or hardness {number}, and {value} +- {moved} by the oracle"

    # Weights and value. Both sides start from the same losses and work in float64. A radius is solved for log(beta),
    # up to about 100, to 1e-14 of it; that times (l - max l) / beta, up to 30 where a weight is above 1e-13, is 3e-11
    # of the weight. The value is a sum of losses, or a difference of multiples of the temperature.
    if len(labeled) == 0:
        expected = Expected(np.zeros(0), 0.0, 0.0)
    elif case.scope == "dataset":
        places = np.array(case.index)
        new = dict(zip(places[rows].tolist(), zip(*recorded, strict=True), strict=True))
        expected = Expected.over_the_set(case, new, places[labeled].tolist())
    elif case.unit == "token" and case.hardness == "nll":
        expected = Expected.over_tokens_of_samples(case, own, own_hardness, owner)
    else:
        expected = Expected.over_the_batch(case, own, own_hardness)
    weights = np.zeros(len(labels))
    if case.unit == "sample":
        weights[labeled] = expected.share
        np.testing.assert_allclose(term.weights.gradient, weights, rtol=1e-10, atol=1e-12)
    else:
        assert outcome.mask is not None
        np.testing.assert_allclose(term.weights.gradient[outcome.mask], expected.share, rtol=1e-10, atol=1e-12)
        assert not term.weights.gradient[~outcome.mask].any()
    slack = 1e-12 * expected.scale
    assert abs(float(term.weights.value) - expected.value) <= slack, f"value {expected.value} by the oracle"
    value = term.value.item() if isinstance(term.value, Tensor) else term.value
    assert abs(value - expected.value) <= slack + precision.eps * abs(expected.value) + precision.tiny

    # The gradient by the logits in closed form, then by the parameters through all logits. An error is a weight's
    # (as above), a slope's, or a probability's (relatively what its logarithm's is); and logits in bfloat16 have a
    # gradient in bfloat16, whose 8 binary digits round by 2^-8 at most.
    gradient, bound = np.zeros_like(logits), np.zeros_like(logits)
    groups = (
        [np.flatnonzero(owner == row) for row in labeled] if case.unit == "sample" else [[k] for k in range(len(x))]
    )
    for share, group, (_, slopes, _, moved) in zip(expected.share, groups, units, strict=True):
        for k, slope, slope_error in zip(group, slopes, moved, strict=True):
            at = owner[k], place[k]
            probabilities, truth = np.exp(everything[at]), np.eye(VOCABULARY)[target[k]]
            gradient[at] = share * slope * (truth - probabilities)
            relative = error[k] + 1e-10
            bound[at] = (share * (slope_error + slope * relative) + 1e-12 * slope) * (truth + probabilities)
            if case.dtype is torch.bfloat16:
                bound[at] += 2**-8 * abs(gradient[at])
    compare(case, model, term, inputs, torch.from_numpy(gradient), torch.from_numpy(bound))


def compare(case: Case, model: Causal, term: Term, inputs: Any, gradient: Tensor, bound: Tensor) -> None:
    """The model is linear in each of its parameters: bounds add up as the gradients of one with absolute values."""
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model.scores(*inputs), parameters, case.gamma * gradient)
    larger = case.build(torch.abs)
    bounds = torch.autograd.grad(larger.scores(*inputs), list(larger.parameters()), abs(case.gamma) * bound)
    if isinstance(term.value, Tensor):
        found = torch.autograd.grad(case.gamma * term.value, parameters)
    else:
        assert case.may_skip
        found = tuple(map(torch.zeros_like, parameters))
    for ours, theirs, most in zip(found, expected, bounds, strict=True):
        # Below the smallest normal float32, weights have no digits; float64 sums of the model's own round by 1e-15.
        np.testing.assert_array_less((ours - theirs).abs(), most + 1e-36 + 1e-15 * theirs.abs().max())


@pytest.mark.parametrize("seeds", CHUNKS, ids=lambda seeds: f"seeds={seeds.start}-{seeds.stop - 1}")
def test_value_and_gradient_are_those_of_the_oracle(seeds: range) -> None:
    for seed in seeds:
        case = Case.drawn(seed)
        try:
            check(case)
        except Exception as error:
            error.add_note(pformat(case, width=160))
            raise


def test_the_cases_hold_what_they_are_meant_to() -> None:
    counts: Counter[str] = Counter()
    for seed in range(CHUNKS[-1].stop):
        case = Case.drawn(seed)
        answers = (case.labels()[:, 1:] != IGNORE_INDEX).int()
        labeled, lengths = answers.any(-1), {len(tokens) for tokens, _ in case.samples}
        twins = len(case.samples) - len({repr(sample) for sample in case.samples})
        again = len(case.index) - len(set(case.index))
        before = [loss for loss in case.losses if math.isfinite(loss)]
        rule: Any = case.weighting
        soft, ball = isinstance(rule, DonskerVaradhan), isinstance(rule, ChiSquare)
        by_beta, by_radius = soft and rule.beta is not None, soft and rule.radius is not None
        features = {
            **{str(dtype): case.dtype is dtype for dtype in DTYPES},
            **{model.__name__: case.model is model for model in MODELS},
            "one sample": len(case.samples) == 1,
            "six samples": len(case.samples) == 6,
            "equal samples": twins > again,
            "a sample that comes twice": again > 0,
            "no answer at all": not labeled.any(),
            "some samples without answer": labeled.any() and not labeled.all(),
            "holes in an answer": (answers.diff(dim=1).abs().sum(-1) > 2).any(),
            "padding on the left": len(lengths) > 1 and case.side == "left",
            "padding on the right": len(lengths) > 1 and case.side == "right",
            "padding that is not a number": len(lengths) > 1 and case.nan_padding,
            "positive temperature": by_beta and 0 < rule.beta < math.inf,
            "negative temperature": by_beta and rule.beta < 0,
            "infinite temperature": by_beta and math.isinf(rule.beta),
            "radius 0": by_radius and rule.radius == 0,
            "radius between": by_radius and 0 < rule.radius < 2,
            "radius beyond log n": by_radius and rule.radius >= 5,
            "ball of one point": ball and rule.radius == 0,
            "ball between": ball and 0 < rule.radius < 2,
            "ball of everything": ball and rule.radius >= 5,
            "group of all": isinstance(rule, TopGroup) and rule.fraction == 1,
            "group of some": isinstance(rule, TopGroup) and rule.fraction < 1,
            "ties before": case.scope == "dataset" and len(set(before)) < len(before),
        }
        counts.update({name: int(bool(holds)) for name, holds in features.items()})
    assert min(counts.values()) >= 50, counts
