"""`baldro bench` with the framework's own trainers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from baldro_ext.tools.bench.contenders import BASES

from .conftest import Framework

pytestmark = pytest.mark.framework


def test_everything_is_measured_in_one_run(framework: Framework, tmp_path: Path) -> None:
    shape = (
        "--hidden",
        "64",
        "--layers",
        "1",
        "--vocabulary",
        "300",
        "--batch",
        "4",
        "--length",
        "16",
        "--prompt",
        "6",
    )
    output = framework.run("-m", "baldro_ext.tools.cli", "bench", *shape, "--rounds", "2", "--out", str(tmp_path))
    record = json.loads((tmp_path / "bench.json").read_text())
    measured = {one["name"]: one for one in record["measured"]}
    assert next(iter(measured)) == "floor"
    assert {name for trainers in BASES.values() for name, _, _ in trainers} <= measured.keys()
    assert all(len(one["seconds"]) == 2 and one["saved_bytes"] > 0 for one in measured.values())
    # What each is for: no copies, a group half as large, a retain batch of its size, the release's waste.
    copies = {name: one["copies"] for name, one in measured.items()}
    assert {
        name: copies[name] for name in ("NPO", "SatImp", "SimNPO", "BalDRO_DV", "BalDRO_G", "BalDRO_DV_SatImp")
    } == {
        "NPO": 1,
        "SatImp": 1,
        "SimNPO": 0,
        "BalDRO_DV": 0,
        "BalDRO_G": 0,
        "BalDRO_DV_SatImp": 0,
    }
    saved = {name: one["saved_bytes"] / measured["floor"]["saved_bytes"] for name, one in measured.items()}
    assert saved["BalDRO_DV"] == pytest.approx(1, rel=0.02)
    assert saved["BalDRO_G"] == pytest.approx(0.75, rel=0.02)
    assert saved["BalDRO_G retain_batch=matched"] == pytest.approx(0.5, rel=0.02)
    assert saved["GroupNPO (released)"] > saved["NPO"] > 1
    assert "BalDRO_G scope=dataset" in output
    assert (tmp_path / "bench.png").stat().st_size > 10_000

    framework.run("-m", "baldro_ext.tools.cli", "bench", *shape, "--out", str(tmp_path), ok=False)
