"""What the benchmark counts and compares, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from baldro_ext import DonskerVaradhan, TopGroup
from baldro_ext.logprobs import answer_log_probs
from baldro_ext.losses import NPO, SimNPO
from baldro_ext.tools.bench import released
from baldro_ext.tools.bench.contenders import Contender
from baldro_ext.tools.bench.measure import Measured, flops, measure
from baldro_ext.tools.bench.pictures import draw_growth, draw_steps
from baldro_ext.tools.bench.result import Benchmark, Ratio, peak_tflops
from baldro_ext.tools.bench.workload import SHAPES, Load, MadeUpPairs, Shape, stack
from baldro_ext.tools.cli import app

from .test_robust_loss import Robust

TINY = Shape(hidden=64, layers=1, heads=2, key_value_heads=2, feed_forward=96, vocabulary=50)
LOAD = Load(batch=5, length=9, prompt=3)


def test_bytes_saved_for_backward_are_counted_once_and_without_parameters() -> None:
    layer = nn.Linear(8, 8, bias=False)
    inputs = torch.randn(3, 8)

    def loss(number: int) -> Tensor:
        hidden = layer(inputs)  # saves the inputs: 3 x 8 numbers of 4 bytes, and the weight, which does not count
        return (hidden * hidden).sum()  # saves the hidden values, twice but in one place: as many

    (measured,) = measure([Contender("one", None, loss)], layer, batches=1, rounds=3)
    assert measured.saved_bytes == 2 * 3 * 8 * 4
    assert len(measured.seconds) == 3
    assert measured.peak_bytes is None
    assert layer.weight.grad is None


def test_flops_are_those_of_the_matrix_products() -> None:
    layer = nn.Linear(8, 16, bias=False)
    inputs = torch.randn(3, 8, requires_grad=True)
    # Forward, gradient of the inputs, gradient of the weight: 2 x 3 x 8 x 16 each.
    assert flops(Contender("one", None, lambda number: layer(inputs).sum()), layer) == 3 * 2 * 3 * 8 * 16


def test_every_contender_is_timed_on_every_batch_in_turn() -> None:
    layer, calls = nn.Linear(2, 2), list[tuple[str, int]]()

    def contender(name: str) -> Contender:
        def loss(number: int) -> Tensor:
            calls.append((name, number))
            return layer(torch.ones(1, 2)).sum()

        return Contender(name, None, loss)

    measure([contender("a"), contender("b")], layer, batches=2, rounds=4)
    timed = calls[-8:]  # before them: one call each to warm up, and those that count memory
    assert [name for name, _ in timed] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [number for _, number in timed] == [0, 0, 1, 1, 0, 0, 1, 1]


def test_a_ratio_is_taken_round_by_round() -> None:
    # The third round was slow for both.
    assert Ratio.of([1, 1, 10, 1], [2, 2, 20, 2]) == Ratio(0.5, 0.5, 0.5)
    assert Ratio.of([1, 2, 3], [1, 1, 1]) == Ratio(2, 1.5, 2.5)


def test_the_shapes_have_the_sizes_of_the_models_they_are_called_by() -> None:
    """Their published sizes, 1.24 and 8.03 billion parameters, counted without making them."""

    def parameters(shape: Shape) -> int:
        with torch.device("meta"):
            return sum(p.numel() for p in shape.build(torch.device("meta"), torch.bfloat16).parameters())

    assert parameters(SHAPES["llama-3.2-1b"]) == 1_235_814_400
    assert parameters(SHAPES["llama-3.1-8b"]) == 8_030_261_248
    assert torch.get_default_dtype() == torch.float32


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module, dict[str, dict[str, Tensor]]]:
    """A model, the one before it, and a batch, in float64."""
    before = TINY.build(torch.device("cpu"), torch.float64)
    model = TINY.build(torch.device("cpu"), torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    pairs = MadeUpPairs(LOAD, TINY.vocabulary)
    return model, before, stack([pairs[index] for index in range(LOAD.batch)])


@pytest.mark.parametrize(("loss", "objective"), [(released.npo, NPO()), (released.simnpo, SimNPO())])
def test_the_released_steps_are_those_that_the_presets_compute(
    loss: released.Loss, objective: NPO | SimNPO, models: tuple[nn.Module, nn.Module, dict[str, dict[str, Tensor]]]
) -> None:
    model, before, batch = models
    forget, retain = (
        answer_log_probs(model(batch[side]["input_ids"]).logits, batch[side]["labels"]) for side in ("forget", "retain")
    )
    reference = answer_log_probs(before(batch["forget"]["input_ids"]).logits, batch["forget"]["labels"]).sums.detach()
    dual = Robust(objective, DonskerVaradhan(beta=-1.0))(forget, reference).value - retain.sums.mean()
    torch.testing.assert_close(released.dual_step(loss, model, before, batch), dual, rtol=1e-6, atol=0)

    torch.manual_seed(3)
    step = released.group_step(loss, model, before, batch)
    torch.manual_seed(3)
    kept = torch.randperm(LOAD.batch)[:2]
    group = Robust(objective, TopGroup(0.5, "floor"), "nll")(forget, reference).value
    expected = group - retain[kept].sums.sum() / retain[kept].lengths.sum()
    torch.testing.assert_close(step, expected, rtol=1e-5, atol=0)  # the model's own loss is taken in float32


@pytest.fixture
def benchmark() -> Benchmark:
    return Benchmark(
        TINY,
        LOAD,
        (
            Measured("floor", None, 0, 10 * 2**20, None, [1.0, 1.0, 1.0]),
            Measured("NPO", "NPO", 1, 20 * 2**20, None, [2.0, 2.0, 2.0]),
            Measured("BalDRO_DV", "NPO", 0, 15 * 2**20, None, [1.2, 1.2, 1.2]),
        ),
        floor_flops=10**12,
        dtype="float32",
        device="made up",
    )


def test_the_table_compares_with_the_built_in_trainer_and_the_floor(benchmark: Benchmark) -> None:
    head, floor, gap, built_in, ours = benchmark.table().splitlines()
    assert "peak" not in head
    assert floor.split() == ["floor", "1", "1.00", "10", "0"]
    assert not gap.strip()
    assert built_in.split() == ["NPO", "2", "1.00", "1.00-1.00", "2.00", "20", "1.00", "1"]
    assert ours.split() == ["BalDRO_DV", "1.2", "0.60", "0.60-0.60", "1.20", "15", "0.75", "0"]


def test_on_a_gpu_the_table_has_absolute_figures_too(benchmark: Benchmark) -> None:
    on_gpu = replace(
        benchmark, measured=tuple(replace(one, peak_bytes=3 * 2**30) for one in benchmark.measured), peak_tflops=4.0
    )
    # 90 tokens in 1.2 s; 1 of 4 TFLOP/s for 1.2 s.
    assert on_gpu.table().splitlines()[-1].split()[-3:] == ["3.0", "75", "21%"]
    assert peak_tflops("NVIDIA H100 80GB HBM3") == 989
    assert peak_tflops("something else") is None


def test_pictures_are_drawn(benchmark: Benchmark, tmp_path: Path) -> None:
    draw_steps(benchmark, tmp_path / "bench.png")
    seconds = {name: [1.0, 2.0, 3.0] for name in ("floor", "NPO", "BalDRO_DV", "BalDRO_G")}
    draw_growth(
        {quantity: {8: seconds, 16: seconds} for quantity in ("batch", "length", "vocabulary")}, tmp_path / "g.png"
    )
    for name in ("bench.png", "g.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bases", "NP0"], "there are NPO, SatImp, SimNPO; did you mean NPO?"),
        (["--prompt", "96"], "96 of 96 tokens leave no answer"),
        (["--device", "quantum"], "'quantum' is no device: use cpu, cuda or cuda:0"),
        (["--shape", "llama"], "'llama' is not one of 'small', 'medium'"),
    ],
)
def test_wrong_usage_exits_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "--out", str(tmp_path / "out"), *arguments])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    result = CliRunner().invoke(app, ["bench", "--out", str(tmp_path)])
    assert result.exit_code == 4
    assert "choose another folder with --out, or replace it with --overwrite" in result.stderr
    assert (tmp_path / "bench.json").read_text() == "{}"
