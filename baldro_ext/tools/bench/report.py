"""The result: a table, a picture, and what the timings depend on."""

import io
import os
import platform
import re
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tabulate import tabulate

from baldro_ext.tools.bench.candidates import FLOOR
from baldro_ext.tools.framework import installed

_COLOURS = {"open-unlearning": "#999999", "baldro_ext": "#0072B2", "released formulas": "#E69F00", FLOOR: "#009E73"}


def table(comparison: pd.DataFrame) -> str:
    """Return one row per method of a comparison as `compared` returns it, and a blank line before each base."""
    rows = []
    for name, row in comparison.iterrows():
        if name == row["base"] != FLOOR:
            rows.append({"": ""})
        cells = {
            "": name,
            "step, s": f"{row['seconds']:.3g}",
            "to built-in": f"{row['ratio']:.2f}",
            "quartiles": f"{row['low']:.2f}-{row['high']:.2f}",
            "to floor": f"{row['to_floor']:.2f}",
            "saved, MiB": f"{row['saved_bytes'] / 2**20:.0f}",
            "saved to built-in": f"{row['saved_ratio']:.2f}",
            "copies": str(row["copies"]),
            "TFLOP": f"{row['flops'] / 1e12:.3g}",
        }
        on_gpu = pd.notna(row["peak_bytes"])
        rows.append(cells | ({"peak, GiB": f"{row['peak_bytes'] / 2**30:.1f}"} if on_gpu else {}))
    return tabulate(rows, "keys", tablefmt="plain", disable_numparse=True, stralign="right", colalign=("left",))


def picture(comparison: pd.DataFrame) -> bytes:
    """Draw step time and bytes saved for backward relative to the built-in trainers, as PNG."""
    shown = comparison.drop(FLOOR)[::-1]
    bases = comparison.loc[shown["base"]]
    kinds = [_kind(name, base) for name, base in shown["base"].items()]
    figure = Figure(figsize=(9, 0.9 + 0.27 * len(shown)), layout="constrained")
    times, saved = figure.subplots(1, 2, sharey=True)
    spread = [shown["ratio"] - shown["low"], shown["high"] - shown["ratio"]]
    saved_by_floor = comparison["saved_bytes"][FLOOR] / bases["saved_bytes"]
    for axes, label, ratio, errors, floor in (
        (times, "step time", shown["ratio"], spread, 1 / bases["to_floor"]),
        (saved, "bytes saved for backward", shown["saved_ratio"], None, saved_by_floor),
    ):
        axes.barh(shown.index, ratio, xerr=errors, color=[_COLOURS[kind] for kind in kinds], error_kw={"elinewidth": 1})
        places = pd.Series(range(len(shown)))
        axes.vlines(floor, places - 0.4, places + 0.4, color=_COLOURS[FLOOR], linewidth=2)
        axes.axvline(1, color="#333333", linewidth=0.8)
        axes.set_xlabel(f"{label} (built-in: 1)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    handles: list[Artist] = [Patch(color=_COLOURS[kind], label=kind) for kind in _COLOURS if kind in kinds]
    handles.append(Line2D([], [], color=_COLOURS[FLOOR], linewidth=2, label="floor: one pass over both batches"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    figure.savefig(png := io.BytesIO(), format="png", dpi=160)
    return png.getvalue()


def environment(device: torch.device) -> dict[str, Any]:
    """Return what timings depend on."""
    packages = ("baldro-ext", "torch", "transformers", "accelerate")
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.+)$", cpuinfo.read_text() if cpuinfo.exists() else "", re.MULTILINE)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else (*names, platform.machine())[0],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "packages": {name: installed(name) for name in packages},
    }


def _kind(name: str, base: str) -> str:
    return "open-unlearning" if name == base else "released formulas" if "released" in name else "baldro_ext"
