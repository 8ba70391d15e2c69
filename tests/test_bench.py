"""What the benchmark counts and compares, against numbers worked out by hand."""

import sys
from itertools import groupby
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from typer.testing import CliRunner

from baldro_ext.tools.bench import released, report
from baldro_ext.tools.bench.batch import MODELS, Batch, build_model, configuration
from baldro_ext.tools.bench.candidates import FLOOR, Candidate
from baldro_ext.tools.bench.measure import compared, measure
from baldro_ext.tools.cli import app

from .test_answer_log_probs import answer_log_probs
from .with_framework import released as formulas

CPU = torch.device("cpu")
BATCH = Batch(size=5, length=9, prompt=3)
COSTS = pd.DataFrame(
    [(FLOOR, FLOOR, 0, 10, None), ("NPO", "NPO", 1, 20, None), ("BalDRO_DV", "NPO", 0, 15, None)],
    columns=["method", "base", "copies", "saved_bytes", "peak_bytes"],
).assign(flops=1e12)
COSTS = COSTS.assign(saved_bytes=COSTS["saved_bytes"] * 2**20).set_index("method")


def test_bytes_saved_for_backward_are_counted_once_and_without_parameters() -> None:
    layer = nn.Linear(8, 16, bias=False)
    inputs = torch.randn(3, 8, requires_grad=True)

    def loss(number: int) -> Tensor:
        hidden = layer(inputs)  # saves the inputs: 3 x 8 numbers of 4 bytes, and the weight, which does not count
        return (hidden * hidden).sum()  # saves the hidden values, twice but in one place: 3 x 16

    costs, seconds = measure([Candidate("one", "one", loss)], layer, batches=1, rounds=3)
    assert costs.loc["one", "saved_bytes"] == 3 * (8 + 16) * 4
    # Forward, gradient of the inputs, gradient of the weight: 2 x 3 x 8 x 16 each.
    assert costs.loc["one", "flops"] == 3 * 2 * 3 * 8 * 16
    assert costs["peak_bytes"].isna().all()
    assert seconds.shape == (3, 1)
    assert (seconds > 0).all(axis=None)
    assert layer.weight.grad is None


def test_every_method_is_timed_on_every_batch_in_turn() -> None:
    layer, calls = nn.Linear(2, 2), list[tuple[str, int]]()

    def method(name: str) -> Candidate:
        def loss(number: int) -> Tensor:
            calls.append((name, number))
            return layer(torch.ones(1, 2)).sum()

        return Candidate(name, name, loss)

    measure([method("a"), method("b")], layer, batches=2, rounds=4)
    blocks = [call for call, _ in groupby(calls)]  # a method is timed by running it many times
    assert blocks[-8:] == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]


def test_a_ratio_is_taken_round_by_round() -> None:
    # The third round was slow for both.
    seconds = pd.DataFrame({FLOOR: [1.0] * 4, "NPO": [2.0, 2, 20, 2], "BalDRO_DV": [1.0, 1, 10, 1]})
    comparison = compared(COSTS, seconds)
    assert list(comparison.loc["BalDRO_DV", ["ratio", "low", "high"]]) == [0.5, 0.5, 0.5]
    assert list(comparison["to_floor"]) == [1, 2, 1]
    assert list(comparison["saved_ratio"]) == [1, 1, 0.75]
    uneven = compared(COSTS, pd.DataFrame({FLOOR: [1.0] * 3, "NPO": [1.0] * 3, "BalDRO_DV": [1.0, 2, 3]}))
    assert list(uneven.loc["BalDRO_DV", ["low", "ratio", "high"]]) == [1.5, 2, 2.5]


def test_the_table_compares_with_the_built_in_trainer_and_the_floor() -> None:
    comparison = compared(COSTS, pd.DataFrame({FLOOR: [1.0], "NPO": [2.0], "BalDRO_DV": [1.2]}))
    head, floor, gap, built_in, ours = report.table(comparison).splitlines()
    assert "peak" not in head
    assert floor.split() == ["floor", "1", "1.00", "1.00-1.00", "1.00", "10", "1.00", "0", "1"]
    assert not gap.strip()
    assert built_in.split() == ["NPO", "2", "1.00", "1.00-1.00", "2.00", "20", "1.00", "1", "1"]
    assert ours.split() == ["BalDRO_DV", "1.2", "0.60", "0.60-0.60", "1.20", "15", "0.75", "0", "1"]
    on_gpu = report.table(comparison.assign(peak_bytes=3 * 2**30))
    assert "peak, GiB" in on_gpu.splitlines()[0]
    assert on_gpu.splitlines()[-1].endswith("3.0")
    assert report.picture(comparison).startswith(b"\x89PNG")


def test_a_package_that_is_not_installed_is_no_reason_to_lose_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # where the metadata of packages is looked for
    assert set(report.environment(CPU)["packages"].values()) == {None}


@pytest.mark.parametrize(("name", "parameters"), [("Llama-3.2-1B", 1_235_814_400), ("Llama-3.1-8B", 8_030_261_248)])
def test_a_shape_has_the_size_of_the_model_it_is_called_by(name: str, parameters: int) -> None:
    model = build_model(configuration(name), torch.device("meta"), torch.bfloat16)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module, dict[str, dict[str, Tensor]]]:
    """A model, the one before it, and a batch, in float64."""
    model, before = (build_model(configuration("tiny"), CPU, torch.float64) for _ in range(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    samples = BATCH.samples(MODELS["tiny"]["vocab_size"])
    return model, before, default_collate([samples[index] for index in BATCH.rows[0]])


@pytest.mark.parametrize("base", released.STEPS)
def test_a_released_step_is_the_released_formula(
    base: str, models: tuple[nn.Module, nn.Module, dict[str, dict[str, Tensor]]]
) -> None:
    model, before, batch = models
    forget, retain, reference = (
        list(answer_log_probs(given(batch[side]["input_ids"]).logits, batch[side]["labels"]).tokens[:, 2:])
        for given, side in ((model, "forget"), (model, "retain"), (before, "forget"))
    )
    dual, group = released.STEPS[base]
    expected = formulas.dr(formulas.LOSSES[base], forget, reference) - torch.stack(retain).sum(-1).mean()
    torch.testing.assert_close(released.step(dual, model, before, batch), expected, rtol=1e-6, atol=0)

    torch.manual_seed(3)
    step = released.step(group, model, before, batch)
    torch.manual_seed(3)
    kept = torch.randperm(BATCH.size)[:2]
    expected = formulas.group(formulas.LOSSES[base], forget, reference) - torch.stack(retain)[kept].mean()
    torch.testing.assert_close(step, expected, rtol=1e-5, atol=0)  # the model's own loss is taken in float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bases", "NP0"], "did you mean NPO? There are NPO, SatImp, SimNPO"),
        (["--prompt", "96"], "96 of 96 tokens leave no answer"),
        (["--shape", "smal"], "did you mean small?"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--out", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
