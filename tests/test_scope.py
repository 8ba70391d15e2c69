"""The scope: that micro-batches and ranks do not change what the worst case over the whole forget set is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.ledger import Ledger
from baldro_ext.likelihood import AnswerLogProbs
from baldro_ext.objectives import NPO, ForgetLoss, SimNPO
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.scope import Gather, Scope
from baldro_ext.weighting import Weighting

SIZE = 13
LENGTHS = torch.tensor([3, 1, 6, 2, 4, 5, 2, 3, 1, 4, 6, 2, 3])
# How much more likely each answer is than under the reference, in nats: what makes NPO's losses differ.
GAINS = torch.tensor([0.5, -20, 3, -7, 1, -12, 9, -30, -2, 4, -15, 0, -5], dtype=torch.float64)


class Ranks:
    """Data-parallel ranks as threads that exchange rows at a barrier."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._barrier = threading.Barrier(number)
        self._rows: list[Tensor] = [torch.empty(0)] * number

    def gather_of(self, rank: int) -> Gather:
        def gather(rows: Tensor) -> tuple[Tensor, slice]:
            self._rows[rank] = rows
            self._barrier.wait(timeout=20)
            table = torch.cat(self._rows)
            start = sum(len(other) for other in self._rows[:rank])
            self._barrier.wait(timeout=20)
            return table, slice(start, start + len(rows))

        return gather

    def run(self, work: Callable[[int], None]) -> None:
        failures: list[BaseException] = []

        def guarded(rank: int) -> None:
            try:
                work(rank)
            except BaseException as error:
                failures.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(self.number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


class Model:
    """Stands for a language model: answers of sample i are a smooth function of one shared parameter vector."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.parameters = torch.randn(5, generator=generator, dtype=torch.float64)
        self.features = torch.randn(SIZE, 6, 5, generator=generator, dtype=torch.float64)
        self.mask = torch.arange(6) < LENGTHS[:, None]

    def answers(self, parameters: Tensor, indices: Tensor) -> AnswerLogProbs:
        tokens = -torch.nn.functional.softplus(self.features[indices] @ parameters)
        return AnswerLogProbs(tokens * self.mask[indices], self.mask[indices])


def epoch(size: int, micro_batch: int, ranks: int) -> list[list[Tensor]]:
    """Indices per step and rank, as accelerate shards them: the last step is filled up from the start."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1)).tolist()
    per_step = micro_batch * ranks
    steps = []
    for start in range(0, size, per_step):
        chunk = order[start : start + per_step]
        while len(chunk) < per_step and ranks > 1:
            chunk += order[: per_step - len(chunk)]
        steps.append(
            [torch.tensor(chunk[r * micro_batch : (r + 1) * micro_batch], dtype=torch.long) for r in range(ranks)]
        )
    return steps


def gradients(
    robust: RobustLoss, kind: Literal["batch", "dataset"], micro_batch: int, ranks: int, size: int = SIZE
) -> tuple[Tensor, list[Ledger]]:
    """Mean gradient over one epoch with the parameters held still, micro-batches weighted by their samples."""
    model = Model()
    everyone = torch.arange(size)
    answers = model.answers(model.parameters, everyone)
    reference = answers.sums - GAINS[:size]
    start = robust.objective(answers, reference)
    hardness = start if robust.hardness == "loss" else answers.means
    ledgers = [Ledger.blank(size) for _ in range(ranks)]
    for ledger in ledgers:
        ledger.record(everyone, start, hardness)
    group = Ranks(ranks)
    totals = [torch.zeros(5, dtype=torch.float64) for _ in range(ranks)]
    counted = torch.zeros(ranks)

    def work(rank: int) -> None:
        scope = Scope(kind, ledgers[rank], ranks, group.gather_of(rank))
        for shards in epoch(size, micro_batch, ranks):
            seen = int(ledgers[rank].visited.sum())
            parameters = model.parameters.clone().requires_grad_()
            term = robust(model.answers(parameters, shards[rank]), reference[shards[rank]], scope, shards[rank])
            (gradient,) = torch.autograd.grad(term.value, parameters)
            samples = int(ledgers[rank].visited.sum()) - seen
            totals[rank] += gradient * samples
            counted[rank] += samples

    group.run(work)
    assert counted.tolist() == [size] * ranks
    return sum(totals) / ranks / size, ledgers  # type: ignore[return-value]


def full_set_gradient(robust: RobustLoss, size: int = SIZE) -> Tensor:
    """The gradient of the worst case over the whole forget set, taken in one piece."""
    model = Model()
    everyone = torch.arange(size)
    parameters = model.parameters.clone().requires_grad_()
    answers = model.answers(parameters, everyone)
    reference = answers.sums.detach() - GAINS[:size]
    losses = robust.objective(answers, reference)
    hardness = losses.detach() if robust.hardness == "loss" else answers.means.detach()
    (gradient,) = torch.autograd.grad((robust.weighting.weights(hardness) * losses).sum(), parameters)
    return gradient


WEIGHTINGS = [DonskerVaradhan(beta=0.1), DonskerVaradhan(radius=0.4), TopGroup(0.3)]
NAMES = ["DV by beta", "DV by radius", "G"]


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("objective", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_gradient_over_one_epoch_equals_full_set_gradient(
    micro_batch: int, ranks: int, weighting: Weighting, objective: ForgetLoss, hardness: Literal["loss", "nll"]
) -> None:
    robust = RobustLoss(objective, weighting, hardness)
    found, ledgers = gradients(robust, "dataset", micro_batch, ranks)
    torch.testing.assert_close(found, full_set_gradient(robust), rtol=1e-8, atol=1e-12)
    for ledger in ledgers[1:]:
        assert torch.equal(ledger.losses, ledgers[0].losses)
        assert torch.equal(ledger.visited, ledgers[0].visited)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_a_batch_over_several_ranks_is_the_batch_on_one(weighting: Weighting, ranks: int) -> None:
    robust = RobustLoss(NPO(), weighting)
    # 12 samples are divided evenly, so that a step holds the same samples either way.
    together, _ = gradients(robust, "batch", 12 // (2 * ranks), ranks, size=12)
    alone, _ = gradients(robust, "batch", 6, 1, size=12)
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-14)


def test_a_batch_of_one_is_plain_averaging_in_the_batch_and_robust_in_the_dataset() -> None:
    robust = RobustLoss(NPO(), TopGroup(0.3))
    plain = full_set_gradient(RobustLoss(NPO(), TopGroup(1.0)))
    torch.testing.assert_close(gradients(robust, "batch", 1, 1)[0], plain, rtol=1e-10, atol=1e-14)
    assert not torch.allclose(gradients(robust, "dataset", 1, 1)[0], plain, rtol=0.1)


@pytest.mark.parametrize("objective", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_the_worst_case_here_differs_from_the_mean(weighting: Weighting, objective: ForgetLoss) -> None:
    """Or the tests above would pass for any weights."""
    found, plain = (full_set_gradient(RobustLoss(objective, rule)) for rule in (weighting, TopGroup(1.0)))
    assert (found - plain).norm() > 0.1 * plain.norm()


def test_more_ranks_than_samples() -> None:
    robust = RobustLoss(SimNPO(), DonskerVaradhan(beta=0.5))
    found, _ = gradients(robust, "dataset", 1, 3, size=2)
    torch.testing.assert_close(found, full_set_gradient(robust, size=2), rtol=1e-8, atol=1e-12)


def test_a_rank_without_answers_still_takes_part() -> None:
    group, robust = Ranks(2), RobustLoss(SimNPO(), TopGroup(0.5))
    model, values = Model(), [torch.empty(0)] * 2
    ledgers = [Ledger.blank(4) for _ in range(2)]

    def work(rank: int) -> None:
        given = model.answers(model.parameters.clone().requires_grad_(), torch.tensor([2 * rank, 2 * rank + 1]))
        if rank == 1:
            given = AnswerLogProbs(given.tokens * 0, torch.zeros_like(given.mask))
        term = robust(
            given, None, Scope("batch", ledgers[rank], 2, group.gather_of(rank)), torch.tensor([0, 1]) + 2 * rank
        )
        term.value.backward()
        values[rank] = term.value.detach()

    group.run(work)
    assert values[0] == values[1]
    assert ledgers[0].known.tolist() == [True, True, False, False]
