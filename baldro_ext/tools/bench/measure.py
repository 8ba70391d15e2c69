"""The measuring: contenders take turns, so that what slows the machine down for a while slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from baldro_ext.tools.bench.contenders import Contender


@dataclass
class Measured:
    """What steps of one contender took.

    Attributes:
        name: Of the contender.
        base: Of its built-in trainer.
        copies: Further models kept in memory.
        saved_bytes: Kept between forward and backward, parameters not counted.
        peak_bytes: On a GPU, the most that a step had allocated, its model and copies included, and without the
            optimizer; otherwise `None`.
        seconds: Of each round, forward and backward.
    """

    name: str
    base: str | None
    copies: int
    saved_bytes: int
    peak_bytes: int | None
    seconds: list[float] = field(default_factory=list)


def measure(
    contenders: Sequence[Contender],
    model: nn.Module,
    batches: int,
    rounds: int,
    progress: Callable[[], object] = lambda: None,
) -> list[Measured]:
    """Measure all contenders, each first once for memory and then in rounds for time.

    Args:
        contenders: All of the same model.
        model: That model.
        batches: How many batches to cycle through.
        rounds: How often each is timed.
        progress: Called after each step.
    """
    _drift(model)
    for contender in contenders:
        for number in range(batches):
            contender.loss(number)  # what is done once is no part of a step; then a latest loss is known of each sample
        progress()
    results = []
    for contender in contenders:
        results.append(_memory(contender, model))
        progress()
    for turn in range(rounds):
        first = turn % len(contenders)
        for place in [*range(first, len(contenders)), *range(first)]:
            results[place].seconds.append(_time(contenders[place], model, turn % batches))
            progress()
    return results


def flops(contender: Contender, model: nn.Module) -> int:
    """Count the floating-point operations of a contender's step, those of matrix products and attention."""
    with FlopCounterMode(display=False) as counter:
        contender.loss(0).backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())


def _drift(model: nn.Module) -> None:
    """Move the model away from its reference: where all losses are equal, no sample is worse than another."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1 * float(parameter.float().std(correction=0)))


def _time(contender: Contender, model: nn.Module, number: int) -> float:
    _wait()
    started = time.perf_counter()
    contender.loss(number).backward()  # type: ignore[no-untyped-call]
    _wait()
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return seconds


def _memory(contender: Contender, model: nn.Module) -> Measured:
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    cuda = next(model.parameters()).is_cuda
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 0
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = contender.loss(0)
    loss.backward()  # type: ignore[no-untyped-call]
    peak = None
    if cuda:
        # Of the shared device, what this contender would need alone.
        size = sum(parameter.nbytes for parameter in model.parameters())
        peak = torch.cuda.max_memory_allocated() - before + size * (1 + contender.copies)
    model.zero_grad(set_to_none=True)
    return Measured(contender.name, contender.base, contender.copies, sum(saved.values()), peak)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
