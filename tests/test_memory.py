"""The parts of `baldro memory` that need no framework, against numbers worked out by hand and real optimizers."""

from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import nn
from transformers.optimization import Adafactor
from typer.testing import CliRunner

from baldro_ext.tools.bench.batch import MODELS, Batch, build_model, configuration
from baldro_ext.tools.cli import app
from baldro_ext.tools.memory import OPTIMIZERS, RESERVE, Setting, smallest_card, table
from baldro_ext.tools.weightless import Peak

WIDTH = MODELS["tiny"]["vocab_size"]


@pytest.mark.parametrize(
    ("name", "millions"), [("SmolLM2-135M", 134.515), ("Llama-2-7B", 6738.416), ("Qwen3-8B", 8190.735)]
)
def test_a_model_has_the_size_of_the_published_one(name: str, millions: float) -> None:
    if name == "Qwen3-8B":
        pytest.importorskip("transformers.models.qwen3")
    model = Setting(name, Batch()).build("meta")
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=1e-3)


def test_the_peak_is_what_was_alive_together() -> None:
    model = build_model(configuration("tiny"), torch.device("cpu"), torch.float32)
    with Peak(model, model.parameters()) as peak:
        first = torch.ones(10, WIDTH)  # logits, 4 bytes each
        view = first[2:]  # no memory of its own
        rest = torch.ones(5)
        del first, view
        torch.ones(WIDTH - 1)
    assert rest.sum() == 5
    assert peak.most == {True: 40 * WIDTH, False: 20}


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_torch", lambda given: torch.optim.AdamW(given)),
        ("adafactor", lambda given: Adafactor(given, scale_parameter=False, relative_step=False, lr=1e-3)),
    ],
)
def test_the_state_of_an_optimizer_is_the_real_ones(name: str, make: Callable[..., torch.optim.Optimizer]) -> None:
    parameters = [nn.Parameter(torch.ones(shape, dtype=torch.bfloat16)) for shape in [(6, 40), (7,)]]
    optimizer = make(parameters)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [
        value
        for of in optimizer.state.values()
        for value in of.values()
        if torch.is_tensor(value) and value.numel() > 1
    ]
    assert sum(OPTIMIZERS[name](parameter, False) for parameter in parameters) == sum(one.nbytes for one in tensors)


def test_eight_bits_are_not_for_embeddings_and_small_parameters() -> None:
    large, small = nn.Parameter(torch.empty(64, 64)), nn.Parameter(torch.empty(64))
    of = OPTIMIZERS["paged_adamw_8bit"]
    assert of(large, False) == 64 * 64 * 2 + 2 * 4 * 16  # two moments, and a scale for each 256 numbers of either
    assert (of(large, True), of(small, False)) == (64 * 64 * 8, 64 * 8)


def test_the_table_names_the_smallest_gpu_with_room() -> None:
    parts = pd.DataFrame({"parameters": [1.5, 15.0], "copies": [0, 15.0], "peak": [1.5, 100]}, index=["ours", "NPO"])
    head, ours, built_in = table(parts * 2**30).splitlines()
    assert head.split() == ["parameters", "copies", "peak", "fits,", "GB"]
    assert ours.split() == ["ours", "1.5", "-", "1.5", "24"]
    assert built_in.split() == ["NPO", "15", "15", "100", "over", "80"]
    assert smallest_card(39.4 - RESERVE) == "40"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model Llama-3.1-8b", "did you mean Llama-3.1-8B?"),
        ("--model Llama-3.1-8B --optimizer adamw", "did you mean adamw_torch?"),
        ("--model Llama-3.1-8B --methods ,", "at least one"),
        ("--model Llama-3.1-8B --four-bit", "add --lora 16"),
        ("--model Llama-3.1-8B --tokens 8 --answer-tokens 8", "leave no prompt"),
    ],
)
def test_wrong_usage_exits_2(arguments: str, message: str) -> None:
    result = CliRunner().invoke(app, ["memory", *arguments.split()])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_the_help_lists_what_there_is() -> None:
    printed = CliRunner().invoke(app, ["memory", "--help"]).output
    assert all(name in printed for name in [*MODELS, *OPTIMIZERS])
