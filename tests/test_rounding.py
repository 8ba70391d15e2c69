"""Weights rounded to a few bits, against numpy, and put back bit by bit."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from baldro_ext.open_unlearning.rounding import rounded_to, rounded_weights

from .tiny import llama, lora


def nearest(numbers: np.ndarray, weight: np.ndarray, bits: int, size: int) -> np.ndarray:
    """Look for the nearest to each number among all those that its group of weights can be rounded to."""
    steps = 2 ** (bits - 1) - 1
    found = np.empty_like(numbers)
    for row, start in np.ndindex(len(weight), -(-weight.shape[1] // size)):
        group = slice(start * size, (start + 1) * size)
        grid = np.arange(-steps, steps + 1) / steps * np.abs(weight[row, group]).max()
        found[row, group] = grid[np.abs(numbers[row, group][:, None] - grid).argmin(1)]
    return found


def bits_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone().view(torch.uint8) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("inputs", "size", "bits"), [(128, 64, 4), (100, 64, 4), (48, 64, 4), (64, 16, 2), (64, 32, 8)]
)
def test_each_weight_becomes_the_nearest_of_its_group(dtype: torch.dtype, inputs: int, size: int, bits: int) -> None:
    weight = torch.randn(5, inputs, generator=torch.Generator().manual_seed(inputs)).to(dtype)
    weight[2] = 0
    weight[3] *= 1e-6 if dtype != torch.float16 else 1e-2
    found = rounded_to(weight, bits, size)
    assert found.dtype == dtype
    exact, tolerance = weight.double().numpy(), torch.finfo(dtype).eps
    on_grid = nearest(found.double().numpy(), exact, bits, size)
    np.testing.assert_allclose(found.double(), on_grid, rtol=tolerance, atol=0)
    distance = np.abs(nearest(exact, exact, bits, size) - exact)  # either of two that are as near will do
    np.testing.assert_allclose(np.abs(on_grid - exact), distance, rtol=1e-4, atol=0)
    assert torch.equal(rounded_to(found, bits, size), found), "rounding twice is rounding once"
    assert not torch.equal(found, weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_layers_are_rounded_and_restored_even_after_an_error(dtype: torch.dtype) -> None:
    model = llama().to(dtype)
    before = bits_of(model)
    with contextlib.suppress(KeyError), rounded_weights(model):
        within = bits_of(model)
        raise KeyError
    changed = {name for name in before if not torch.equal(before[name], within[name])}
    assert changed == {name for name in before if name.endswith("proj.weight")}  # not embeddings, norms, lm_head
    assert all(torch.equal(value, before[name]) for name, value in bits_of(model).items())


def test_an_output_layer_that_is_the_embeddings_is_left_alone() -> None:
    model = llama()
    model.lm_head.weight = model.model.embed_tokens.weight
    before = model.lm_head.weight.detach().clone()
    with rounded_weights(model):
        assert torch.equal(model.lm_head.weight, before)


def test_adapters_are_left_alone() -> None:
    pytest.importorskip("peft")
    model = lora(llama())
    before = bits_of(model)
    with rounded_weights(model):
        changed = {name for name, value in bits_of(model).items() if not torch.equal(value, before[name])}
    assert any("q_proj" in name for name in changed)
    assert not any("lora_" in name for name in changed)


@pytest.mark.parametrize(
    ("model", "settings", "named"),
    [
        (llama(), {"bits": 1}, "bits=1"),
        (llama(), {"group_size": 0}, "group_size=0"),
        (llama().to("meta"), {}, "LlamaForCausalLM"),
    ],
)
def test_what_cannot_be_rounded_is_refused(model: nn.Module, settings: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named), rounded_weights(model, **settings):
        pass
