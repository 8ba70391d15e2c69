"""The measuring. Candidates take turns, so that what slows the machine down for a while slows all of them."""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from baldro_ext.tools.bench.candidates import FLOOR, Candidate


def measure(
    candidates: Sequence[Candidate], model: nn.Module, batches: int, rounds: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure steps of all candidates: forward and backward, without the optimizer.

    Args:
        candidates: All with the same model.
        model: That model; its weights are moved away from where they found it.
        batches: How many batches to work on in turn.
        rounds: How often each of them is timed.

    Returns:
        One row per method, with `base`, `copies`, the means over batches of `saved_bytes` and `flops`, and the largest
        `peak_bytes` (missing on a CPU); and seconds per step, one row per round, one column per method.
    """
    _drift(model)
    costs, seconds = [], pd.DataFrame(index=range(rounds), columns=[it.name for it in candidates], dtype=float)
    with tqdm(total=len(candidates) * (1 + rounds), desc="measurements") as bar:
        for candidate in candidates:
            for number in range(batches):  # so that a latest loss of each sample is known
                candidate.loss(number)
            each = pd.DataFrame([_cost(candidate, model, number) for number in range(batches)])
            facts = {"method": candidate.name, "base": candidate.base, "copies": candidate.copies}
            costs.append({**facts, **each.mean(), "peak_bytes": each["peak_bytes"].max()})
            bar.update()
        for turn in range(rounds):
            first = turn % len(candidates)
            for candidate in [*candidates[first:], *candidates[:first]]:
                seconds.loc[turn, candidate.name] = _seconds(candidate, model, turn % batches)
                bar.update()
    return pd.DataFrame(costs).set_index("method"), seconds


def compared(costs: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Compare each method with its base, and with the floor.

    Both are as `measure` returns them. Ratios are taken round by round: one in which both were slow leaves no trace.

    Returns:
        The costs, with `seconds` (median), `ratio`, `low` and `high` (median and quartiles of the step time relative to
        the base), `to_floor` and `saved_ratio`.
    """
    ratios = pd.DataFrame({name: seconds[name] / seconds[base] for name, base in costs["base"].items()})
    return costs.assign(
        seconds=seconds.median(),
        ratio=ratios.median(),
        low=ratios.quantile(0.25),
        high=ratios.quantile(0.75),
        to_floor=seconds.div(seconds[FLOOR], axis=0).median(),
        saved_ratio=costs["saved_bytes"] / costs["base"].map(costs["saved_bytes"]),
    )


def _drift(model: nn.Module) -> None:
    """Move the model away from its reference: where all losses are equal, no sample is worse than another."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1 * float(parameter.float().std(correction=0)))


def _seconds(candidate: Candidate, model: nn.Module, number: int) -> float:
    def step() -> None:
        candidate.loss(number).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)

    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange().median)


def _cost(candidate: Candidate, model: nn.Module, number: int) -> dict[str, float]:
    """Count what a step keeps between forward and backward, what it computes, and what a GPU has allocated at most."""
    parameters = {parameter.untyped_storage().data_ptr(): parameter.nbytes for parameter in model.parameters()}
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
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = candidate.loss(number)
        loss.backward()  # type: ignore[no-untyped-call]
    # What it would need with the device to itself.
    own = sum(parameters.values()) * (1 + candidate.copies)
    peak = torch.cuda.max_memory_allocated() - before + own if cuda else math.nan
    model.zero_grad(set_to_none=True)
    return {"saved_bytes": sum(saved.values()), "flops": counter.get_total_flops(), "peak_bytes": peak}
