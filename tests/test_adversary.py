"""The adversary: that micro-batches and ranks do not change what the worst case over the whole forget set is."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from baldro_ext import ChiSquare, DonskerVaradhan, TopGroup
from baldro_ext.adversary import Adversary, Gather
from baldro_ext.answers import Answers
from baldro_ext.losses import NPO, ForgetLoss, SimNPO
from baldro_ext.robust_loss import RobustLoss
from baldro_ext.state import SampleState
from baldro_ext.weightings import Weighting

SIZE = 13
LENGTHS = torch.tensor([3, 1, 6, 2, 4, 5, 2, 3, 1, 4, 6, 2, 3])
# How much more likely each answer is than under the reference, in nats: what makes NPO's losses differ.
GAINS = torch.tensor([0.5, -20, 3, -7, 1, -12, 9, -30, -2, 4, -15, 0, -5], dtype=torch.float64)


@dataclass(frozen=True)
class Method:
    """A loss, its worst case, and what that is chosen by."""

    loss: ForgetLoss
    weighting: Weighting
    hardness: Literal["loss", "nll"] = "loss"

    def robust(self, size: int, scope: Literal["batch", "dataset"], **where: Any) -> RobustLoss:
        adversary = Adversary(self.weighting, size, scope=scope, by_loss=self.hardness == "loss", **where)
        return RobustLoss(self.loss, adversary)


class Ranks:
    """Data-parallel ranks as threads that exchange rows at a barrier."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._barrier = threading.Barrier(number)
        self._rows: list[Tensor] = [torch.empty(0)] * number
        self.exchanges = [0] * number

    def gather_of(self, rank: int) -> Gather:
        def gather(rows: Tensor) -> Tensor:
            self._rows[rank] = rows
            self._barrier.wait(timeout=20)
            assert len({part.shape for part in self._rows}) == 1, "a collective wants equal shapes"
            table = torch.cat(self._rows)
            self._barrier.wait(timeout=20)
            self.exchanges[rank] += 1
            return table

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

    def answers(self, parameters: Tensor, indices: Tensor) -> Answers:
        tokens = -torch.nn.functional.softplus(self.features[indices] @ parameters)
        return Answers(tokens * self.mask[indices], self.mask[indices])


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
    method: Method, scope: Literal["batch", "dataset"], micro_batch: int, ranks: int, size: int = SIZE
) -> tuple[Tensor, list[SampleState]]:
    """Mean gradient over one epoch with the parameters held still, micro-batches weighted by their samples."""
    model = Model()
    everyone = torch.arange(size)
    answers = model.answers(model.parameters, everyone)
    reference = answers.sums - GAINS[:size]
    start = method.loss(answers, reference)
    group = Ranks(ranks)
    robust = [
        method.robust(size, scope, rank=rank, ranks=ranks, gather=group.gather_of(rank), drawn_once=True)
        for rank in range(ranks)
    ]
    states = [each.adversary.state for each in robust]
    for state in states:
        state.record(everyone, start, start if method.hardness == "loss" else answers.means)
    totals = [torch.zeros(5, dtype=torch.float64) for _ in range(ranks)]
    counted = torch.zeros(ranks)
    steps = epoch(size, micro_batch, ranks)

    def work(rank: int) -> None:
        for shards in steps:
            seen = int(states[rank].seen.sum())
            parameters = model.parameters.clone().requires_grad_()
            mine = shards[rank]
            term, _ = robust[rank](
                lambda rows, p=parameters, index=mine: model.answers(p, index[rows]),  # type: ignore[misc]
                mine,
                torch.ones(len(mine), dtype=torch.bool),
                reference[mine],
            )
            assert isinstance(term, Tensor)
            (gradient,) = torch.autograd.grad(term, parameters)
            samples = int(states[rank].seen.sum()) - seen
            totals[rank] += gradient * samples
            counted[rank] += samples

    group.run(work)
    assert counted.tolist() == [size] * ranks
    assert group.exchanges == [len(steps)] * ranks
    return sum(totals) / ranks / size, states  # type: ignore[return-value]


def full_set_gradient(method: Method, size: int = SIZE) -> Tensor:
    """The gradient of the worst case over the whole forget set, taken in one piece."""
    model = Model()
    everyone = torch.arange(size)
    parameters = model.parameters.clone().requires_grad_()
    answers = model.answers(parameters, everyone)
    reference = answers.sums.detach() - GAINS[:size]
    losses = method.loss(answers, reference)
    hardness = losses.detach() if method.hardness == "loss" else answers.means.detach()
    (gradient,) = torch.autograd.grad((method.weighting.weights(hardness) * losses).sum(), parameters)
    return gradient


WEIGHTINGS = [DonskerVaradhan(beta=0.1), DonskerVaradhan(radius=0.4), TopGroup(0.3), ChiSquare(0.4)]
NAMES = ["DV by beta", "DV by radius", "G", "chi-square"]


@pytest.mark.parametrize("hardness", ["loss", "nll"])
@pytest.mark.parametrize("loss", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 8])
def test_gradient_over_one_epoch_equals_full_set_gradient(
    micro_batch: int, ranks: int, weighting: Weighting, loss: ForgetLoss, hardness: Literal["loss", "nll"]
) -> None:
    method = Method(loss, weighting, hardness)
    found, states = gradients(method, "dataset", micro_batch, ranks)
    torch.testing.assert_close(found, full_set_gradient(method), rtol=1e-8, atol=1e-12)
    for state in states[1:]:
        assert torch.equal(state.losses, states[0].losses)
        assert torch.equal(state.seen, states[0].seen)


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_a_batch_over_several_ranks_is_the_batch_on_one(weighting: Weighting, ranks: int) -> None:
    method = Method(NPO(), weighting)
    # 12 samples are divided evenly, so that a step holds the same samples either way.
    together, _ = gradients(method, "batch", 12 // (2 * ranks), ranks, size=12)
    alone, _ = gradients(method, "batch", 6, 1, size=12)
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-14)


def test_a_batch_of_one_is_plain_averaging_in_the_batch_and_robust_in_the_dataset() -> None:
    method = Method(NPO(), TopGroup(0.3))
    plain = full_set_gradient(Method(NPO(), TopGroup(1.0)))
    torch.testing.assert_close(gradients(method, "batch", 1, 1)[0], plain, rtol=1e-10, atol=1e-14)
    assert not torch.allclose(gradients(method, "dataset", 1, 1)[0], plain, rtol=0.1)


@pytest.mark.parametrize("loss", [NPO(), SimNPO()], ids=["NPO", "SimNPO"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_the_worst_case_here_differs_from_the_mean(weighting: Weighting, loss: ForgetLoss) -> None:
    """Or the tests above would pass for any weights."""
    found, plain = (full_set_gradient(Method(loss, rule)) for rule in (weighting, TopGroup(1.0)))
    assert (found - plain).norm() > 0.1 * plain.norm()


def test_more_ranks_than_samples() -> None:
    method = Method(SimNPO(), DonskerVaradhan(beta=0.5))
    found, _ = gradients(method, "dataset", 1, 3, size=2)
    torch.testing.assert_close(found, full_set_gradient(method, size=2), rtol=1e-8, atol=1e-12)


def on_two_ranks(
    method: Method, labeled: list[list[bool]], scope: Literal["batch", "dataset"] = "batch"
) -> tuple[list[float], list[Tensor], list[SampleState]]:
    """Each rank's value and gradient for samples of which some have no answer, and its state."""
    group, model, size = Ranks(2), Model(), sum(map(len, labeled))
    values, slopes = [0.0, 0.0], [torch.empty(0)] * 2
    robust = [method.robust(size, scope, rank=rank, ranks=2, gather=group.gather_of(rank)) for rank in range(2)]
    starts = [0, len(labeled[0])]

    def work(rank: int) -> None:
        index = torch.arange(len(labeled[rank])) + starts[rank]
        mine = torch.tensor(labeled[rank])
        parameters = model.parameters.clone().requires_grad_()

        def answers_of(rows: Tensor) -> Answers:
            given = model.answers(parameters, index[rows])
            return Answers(given.tokens * mine[rows, None], given.mask & mine[rows, None])

        term, _ = robust[rank](answers_of, index, mine)
        assert isinstance(term, Tensor)
        (slopes[rank],) = torch.autograd.grad(term, parameters)
        values[rank] = term.item()

    group.run(work)
    return values, slopes, [each.adversary.state for each in robust]


@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_a_rank_without_answers_still_takes_part(weighting: Weighting) -> None:
    values, slopes, states = on_two_ranks(Method(SimNPO(), weighting), [[True, True], [False, False]])
    assert values[0] == values[1] > 0
    assert slopes[0].any()
    assert not slopes[1].any()
    assert states[0].has_loss.tolist() == states[1].has_loss.tolist() == [True, True, False, False]


@pytest.mark.parametrize("scope", ["batch", "dataset"])
@pytest.mark.parametrize("weighting", WEIGHTINGS, ids=NAMES)
def test_a_micro_batch_without_answers_on_any_rank_counts_nothing(
    weighting: Weighting, scope: Literal["batch", "dataset"]
) -> None:
    values, slopes, states = on_two_ranks(Method(SimNPO(), weighting), [[False, False], [False, False]], scope)
    assert values == [0, 0]
    assert not slopes[0].any()
    assert not slopes[1].any()
    assert not states[0].has_loss.any()


def test_losses_that_are_not_finite_are_named_on_every_rank_by_their_place_in_the_forget_set() -> None:
    group, errors = Ranks(2), []

    def work(rank: int) -> None:
        adversary = Adversary(TopGroup(0.5), 10, rank=rank, ranks=2, gather=group.gather_of(rank))
        losses = torch.tensor([1.0, 2.0]) if rank == 0 else torch.tensor([torch.nan, torch.inf])
        with pytest.raises(ValueError, match=r"samples \[7, 8\] of the forget set are not finite") as caught:
            adversary.weights(torch.tensor([[3, 4], [8, 7]][rank]), torch.tensor([True, True]), losses, losses)
        errors.append(str(caught.value))

    group.run(work)
    assert errors[0] == errors[1]


def test_a_repetition_within_an_epoch_is_told() -> None:
    state = SampleState.blank(4)
    state.mark_seen(torch.tensor([2]))
    assert state.mark_seen(torch.tensor([1, 2, 1, 3])).tolist() == [True, False, False, True]
    assert state.seen.tolist() == [False, True, True, True]


def test_the_value_over_the_whole_set_is_its_worst_case_and_not_an_estimate_of_it() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    for weighting in WEIGHTINGS:
        adversary = Adversary(weighting, 4, scope="dataset")
        adversary.state.record(torch.arange(4), losses, losses)
        chosen = adversary.weights(torch.tensor([0]), torch.tensor([True]), losses[:1], losses[:1])
        torch.testing.assert_close(chosen.value, weighting(losses))
        assert 1 < chosen.value <= 8


@pytest.mark.parametrize("by_loss", [True, False])
def test_weights_and_value_over_the_whole_set_come_from_one_solution(
    by_loss: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    solve = DonskerVaradhan.solve

    def counted(self: DonskerVaradhan, losses: Tensor) -> tuple[Tensor, Tensor]:
        sizes.append(len(losses))
        return solve(self, losses)

    monkeypatch.setattr(DonskerVaradhan, "solve", counted)
    adversary = Adversary(DonskerVaradhan(radius=0.5), 4, scope="dataset", by_loss=by_loss)
    adversary.state.record(torch.arange(4), torch.arange(4.0), torch.arange(4.0))
    one = torch.tensor([1.0])
    adversary.weights(torch.tensor([0]), torch.tensor([True]), one, one)
    assert sizes == [4]


@pytest.mark.parametrize("hardness", [torch.bfloat16, torch.float32])
def test_losses_of_low_precision_are_recorded_where_they_belong(hardness: torch.dtype) -> None:
    adversary = Adversary(TopGroup(0.5), 1000)
    index, losses = torch.tensor([257, 999]), torch.tensor([1.0, 2.0], dtype=torch.bfloat16)
    adversary.weights(index, torch.ones(2, dtype=torch.bool), losses, losses.to(hardness))
    assert adversary.state.losses[index].tolist() == [1.0, 2.0]
    assert int(adversary.state.has_loss.sum()) == 2
