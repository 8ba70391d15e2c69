"""The benchmark's two pictures: contenders beside each other, and cost as the work grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from baldro_ext.tools.bench.contenders import FLOOR
from baldro_ext.tools.bench.result import Benchmark

_BUILT_IN, _OURS, _RELEASED, _FLOOR = "#999999", "#0072B2", "#E69F00", "#009E73"  # Okabe and Ito's palette


def draw_steps(benchmark: Benchmark, path: Path) -> None:
    """Draw step time and bytes saved for backward of all contenders, relative to their built-in trainers."""
    shown = [one for one in benchmark.measured if one.name != FLOOR][::-1]
    labels = [one.name for one in shown]
    height = 0.9 + 0.27 * len(shown)
    figure, (times, bytes_) = plt.subplots(1, 2, figsize=(9, height), sharey=True, layout="constrained")
    colours = [_BUILT_IN if one.name == one.base else _RELEASED if "released" in one.name else _OURS for one in shown]
    ratios = [benchmark.step_time(one) for one in shown]
    medians = [ratio.median for ratio in ratios if ratio is not None]
    spread = [[r.median - r.low for r in ratios if r is not None], [r.high - r.median for r in ratios if r is not None]]
    times.barh(labels, medians, xerr=spread, color=colours, error_kw={"elinewidth": 1, "ecolor": "#333333"})
    saved = {one.name: one.saved_bytes for one in benchmark.measured}
    bytes_.barh(labels, [one.saved_bytes / saved[one.base or ""] for one in shown], color=colours)
    floor = benchmark.measured[0]
    for place, one in enumerate(shown):
        base = next(other for other in benchmark.measured if other.name == one.base)
        least = benchmark.over_floor(base).median
        times.plot([1 / least] * 2, [place - 0.4, place + 0.4], color=_FLOOR, linewidth=2)
        bytes_.plot([floor.saved_bytes / base.saved_bytes] * 2, [place - 0.4, place + 0.4], color=_FLOOR, linewidth=2)
    times.set_xlabel("step time (built-in: 1)")
    bytes_.set_xlabel("bytes saved for backward (built-in: 1)")
    for axes in (times, bytes_):
        axes.axvline(1, color="#333333", linewidth=0.8)
        axes.set_xlim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    handles: list[Artist] = [Rectangle((0, 0), 1, 1, color=colour) for colour in (_BUILT_IN, _OURS, _RELEASED)]
    handles.append(Line2D([], [], color=_FLOOR, linewidth=2))
    names = ["open-unlearning", "baldro_ext", "released formulas", "floor: one pass over both batches"]
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(path, dpi=160)
    plt.close(figure)


_GROWING = {"batch": "forget samples per step", "length": "tokens per sample", "vocabulary": "tokens in the vocabulary"}


def draw_growth(growth: Mapping[str, Mapping[int, Mapping[str, Sequence[float]]]], path: Path) -> None:
    """Draw seconds per step against each quantity that grows: by quantity, its value, and contender."""
    # By method, as in the demo's picture.
    colours = {"NPO": "#D55E00", "BalDRO_DV": "#009E73", "BalDRO_G": "#0072B2", FLOOR: "#999999"}
    figure, panels = plt.subplots(1, len(growth), figsize=(8.4, 2.9), layout="constrained")
    for axes, (quantity, by_value) in zip(panels, growth.items(), strict=True):
        for name, colour in colours.items():
            values = sorted(by_value)
            middle = [sorted(by_value[value][name])[len(by_value[value][name]) // 2] for value in values]
            axes.plot(values, middle, marker="o", markersize=4, color=colour, label=name)
        axes.set_xticks(sorted(by_value), [f"{value:,}" for value in sorted(by_value)])
        axes.set_xlim(0, None)
        axes.set_xlabel(_GROWING[quantity])
        axes.set_ylim(0, None)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds per step")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=160)
    plt.close(figure)
