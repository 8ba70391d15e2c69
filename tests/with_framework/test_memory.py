"""`baldro memory` against the same steps with real weights, and against what `baldro bench` counts."""

import json
from pathlib import Path

import pytest

from .conftest import Framework

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]


def test_what_is_computed_is_what_a_real_step_needs(framework: Framework) -> None:
    output = framework.run(str(Path(__file__).with_name("real_memory.py")), str(framework.checkout))
    record = json.loads(output.splitlines()[-1])
    computed = {name: pair[0] for name, pair in record["pairs"].items()}
    assert computed == {name: pair[1] for name, pair in record["pairs"].items()}
    copying = {"NPO, plain", "SatImp, plain", "NPO, float32"}
    assert {name for name, parts in computed.items() if parts["copies"]} == copying
    assert computed["BalDRO_G, plain"]["peak"] < computed["BalDRO_DV, plain"]["peak"] < computed["NPO, plain"]["peak"]
    adapters, plain = computed["BalDRO_DV scope=dataset, adapters"], computed["BalDRO_DV, plain"]
    assert adapters["gradients"] < plain["gradients"] / 4
    assert "did you mean NPO?" in record["refused"]["NP0"]
    assert "scope=dataset" in record["refused"]["BalDRO_DV"]
    assert "second answer" in record["refused"]["BalDRO_DV_DPO"]
    # At the peak, what is kept for backward is alive, and temporary tensors beside it.
    for method in ("NPO", "BalDRO_DV"):
        alive = computed[f"{method}, float32"]["activations"] + computed[f"{method}, float32"]["logits"]
        assert 0.8 < record["saved"][method] / alive < 1.05, method
    assert record["saved"]["NPO"] / record["saved"]["BalDRO_DV"] > 1.1
