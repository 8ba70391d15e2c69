"""One benchmark from start to end."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm.auto import tqdm

from baldro_ext.tools.bench.contenders import Field
from baldro_ext.tools.bench.measure import flops, measure
from baldro_ext.tools.bench.result import Benchmark, device_name, peak_tflops
from baldro_ext.tools.bench.workload import Load, Shape

GROWTH: dict[str, tuple[int, ...]] = {
    "batch": (2, 4, 8),
    "length": (64, 128, 256),
    "vocabulary": (8_000, 32_000, 64_000),
}
"""What grows, and through which values, while the rest stays."""

_GROWING = frozenset({"NPO", "BalDRO_DV", "BalDRO_G"})


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        checkout: Of the framework.
        device: Where.
        dtype: Of the weights; anything but float32 is trained under autocast, as the framework does it.
        rounds: How often each contender is timed.
        checkpointing: Whether activations are computed again in backward.
        peak_tflops: Of the device, where its name does not tell.
        quiet: Whether to do without a progress bar.
    """

    checkout: Path
    device: torch.device
    dtype: torch.dtype
    rounds: int = 5
    checkpointing: bool = False
    peak_tflops: float | None = None
    quiet: bool = False


def benchmark(plan: Plan, shape: Shape, load: Load, bases: tuple[str, ...]) -> Benchmark:
    """Measure all contenders of some bases side by side."""
    name = device_name(plan.device)
    with tempfile.TemporaryDirectory() as folder:
        model = _model(plan, shape)
        field = Field(plan.checkout, model, load, Path(folder), plan.dtype != torch.float32).contenders(bases)
        with tqdm(total=len(field) * (2 + plan.rounds), desc="steps", disable=plan.quiet) as bar:
            measured = measure(field, model, load.batches, plan.rounds, bar.update)
        needed = flops(field[0], model)
    peak = plan.peak_tflops or peak_tflops(name)
    return Benchmark(shape, load, tuple(measured), needed, str(plan.dtype).removeprefix("torch."), name, peak)


def growth(plan: Plan, shape: Shape, load: Load) -> dict[str, dict[int, dict[str, list[float]]]]:
    """Measure how a step grows with batch, length and vocabulary: seconds by quantity, value and contender."""
    found: dict[str, dict[int, dict[str, list[float]]]] = {}
    points = [(quantity, value) for quantity, values in GROWTH.items() for value in values]
    for quantity, value in tqdm(points, desc="sizes", disable=plan.quiet):
        larger = replace(shape, vocabulary=value) if quantity == "vocabulary" else shape
        longer = load if quantity == "vocabulary" else replace(load, **{quantity: value})
        with tempfile.TemporaryDirectory() as folder:
            model = _model(plan, larger)
            field = Field(plan.checkout, model, longer, Path(folder), plan.dtype != torch.float32)
            measured = measure(field.contenders(("NPO",), _GROWING), model, load.batches, plan.rounds)
        found.setdefault(quantity, {})[value] = {one.name: one.seconds for one in measured}
    return found


def _model(plan: Plan, shape: Shape) -> torch.nn.Module:
    model = shape.build(plan.device, plan.dtype)
    if plan.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    return model
