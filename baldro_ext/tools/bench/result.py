"""A benchmark's result: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from baldro_ext.tools.bench.measure import Measured
from baldro_ext.tools.bench.workload import Load, Shape

PEAK_TFLOPS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "A10G": 70.0, "RTX 4090": 165.0}
"""Dense bfloat16 TFLOP/s of GPUs by a part of their names, from their makers' data sheets."""


@dataclass(frozen=True)
class Ratio:
    """A median of ratios that were taken round by round, with the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        """Compare two sequences of seconds; a round in which both were slow leaves no trace."""
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        if len(ratios) < 2:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Benchmark:
    """All that was measured in one run, and on what.

    Attributes:
        shape: Of the model.
        load: Of a step.
        measured: By contender, the floor first.
        floor_flops: Floating-point operations of the floor's step: those that the model needs.
        dtype: Of the weights.
        device: Its name.
        peak_tflops: What the device can do, or `None`.
    """

    shape: Shape
    load: Load
    measured: tuple[Measured, ...]
    floor_flops: int
    dtype: str
    device: str
    peak_tflops: float | None = None

    def step_time(self, one: Measured) -> Ratio | None:
        """Return a contender's step time relative to its built-in trainer, for the floor `None`."""
        base = self._base(one)
        return None if base is None else Ratio.of(one.seconds, base.seconds)

    def over_floor(self, one: Measured) -> Ratio:
        """Return a contender's step time relative to the floor."""
        return Ratio.of(one.seconds, self.measured[0].seconds)

    def utilisation(self, one: Measured) -> float | None:
        """Return the share of the device's peak that does what the model needs, between 0 and 1."""
        if self.peak_tflops is None:
            return None
        return self.floor_flops / statistics.median(one.seconds) / (self.peak_tflops * 1e12)

    def table(self) -> str:
        """Return one row per contender."""
        on_gpu = any(one.peak_bytes is not None for one in self.measured)
        head = ["", "step, s", "to built-in", "quartiles", "to floor", "saved, MiB", "to built-in", "copies"]
        head += ["peak, GiB", "tokens/s", "utilisation"] if on_gpu else []
        rows: list[list[str]] = []
        for one in self.measured:
            base, time = self._base(one), self.step_time(one)
            row = [one.name, f"{statistics.median(one.seconds):.3g}"]
            row += ["", ""] if time is None else [f"{time.median:.2f}", f"{time.low:.2f}-{time.high:.2f}"]
            row += [f"{self.over_floor(one).median:.2f}", f"{one.saved_bytes / 2**20:.0f}"]
            row += ["" if base is None else f"{one.saved_bytes / base.saved_bytes:.2f}", str(one.copies)]
            if on_gpu:
                used = self.utilisation(one)
                row += ["-" if one.peak_bytes is None else f"{one.peak_bytes / 2**30:.1f}"]
                row += [f"{self.load.tokens / statistics.median(one.seconds):.0f}"]
                row += ["-" if used is None else f"{used:.0%}"]
            if one.name == one.base:
                rows.append([""] * len(head))
            rows.append(row)
        return tabulate(
            rows, head, tablefmt="plain", disable_numparse=True, colalign=("left", *["right"] * (len(head) - 1))
        )

    def footnote(self) -> str:
        """Return what was measured, and on what, in words."""
        shape, load = self.shape, self.load
        return (
            f"Llama of width {shape.hidden}, {shape.layers} layers, vocabulary {shape.vocabulary:,}, {self.dtype}, on "
            f"{self.device}.\nA step: {load.batch} forget and {load.batch} retain samples of {load.length} tokens, "
            f"{load.prompt} of them prompt; forward and backward, median of {len(self.measured[0].seconds)} rounds.\n"
            "Ratios are taken round by round. saved: bytes kept for backward, without parameters. copies: further "
            "models in memory."
        )

    def record(self) -> dict[str, Any]:
        """Return everything as JSON, with the environment."""
        return {"environment": environment(), **asdict(self)}

    def _base(self, one: Measured) -> Measured | None:
        return next((other for other in self.measured if other.name == one.base), None)


def environment() -> dict[str, Any]:
    """Return what timings depend on, as far as it can be told."""
    packages = ("baldro-ext", "torch", "transformers", "accelerate")
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "packages": {name: metadata.version(name) for name in packages},
    }


def device_name(device: torch.device) -> str:
    """Return what a table calls a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def peak_tflops(name: str) -> float | None:
    """Return a device's peak by its name, if it is known."""
    return next((peak for part, peak in PEAK_TFLOPS.items() if part in name), None)


def write(result: dict[str, Any], path: Path) -> None:
    """Write JSON."""
    path.write_text(json.dumps(result, indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
