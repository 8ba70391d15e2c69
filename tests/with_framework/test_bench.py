"""`baldro bench` with the framework's own trainers."""

import json
from pathlib import Path

import pytest

from baldro_ext.tools.bench.candidates import TRAINERS

from .conftest import Framework

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]


def test_everything_is_measured_in_one_run(framework: Framework, tmp_path: Path) -> None:
    sizes = "--shape tiny --batch 4 --length 16 --prompt 6 --rounds 2"
    output = framework.run("-m", "baldro_ext.tools.cli", "bench", *sizes.split(), "--out", str(tmp_path))
    record = json.loads((tmp_path / "bench.json").read_text())
    methods = record["methods"]
    assert next(iter(methods)) == "floor"
    assert {name for names in TRAINERS.values() for name in names} <= methods.keys()
    assert all(name in output and len(record["seconds"][name]) == 2 for name in methods)
    # What each is for: no copies, a group half as large, a retain batch of its size, the release's waste.
    copying = {"NPO", "SatImp", "DrNPO (released)", "GroupNPO (released)"}
    assert {name: method["copies"] for name, method in methods.items()} == {name: name in copying for name in methods}
    saved = {name: method["saved_bytes"] / methods["floor"]["saved_bytes"] for name, method in methods.items()}
    assert saved["BalDRO_DV"] == pytest.approx(1, rel=0.02)
    assert saved["BalDRO_G"] == pytest.approx(0.75, rel=0.02)
    assert saved["BalDRO_G retain_batch=matched"] == pytest.approx(0.5, rel=0.02)
    assert saved["GroupNPO (released)"] > saved["NPO"] > 1
    assert methods["BalDRO_DV"]["flops"] == methods["floor"]["flops"] < methods["NPO"]["flops"]
    assert (tmp_path / "bench.png").stat().st_size > 10_000
