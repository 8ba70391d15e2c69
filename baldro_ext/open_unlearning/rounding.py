"""A model with its weights rounded to a few bits, as a quantized copy of it would have.

Quantization can bring back what unlearning has hidden (arXiv:2410.16454). This is its plainest kind, with no other
package and on any device: the numbers are those that a quantized layer multiplies with, in the model's own precision.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def rounded_to(weight: Tensor, bits: int = 4, group_size: int = 64) -> Tensor:
    """Round to nearest, in groups of input weights, symmetrically up to each group's largest absolute weight.

    With `m = 2 ** (bits - 1) - 1` (7 for 4 bits) and `a` the largest absolute weight of a group, a weight `w` becomes
    `round(m * w / a) / m * a`: one of `2 * m + 1` numbers, zero and the largest weight itself among them. Rounding
    twice is therefore rounding once.

    Args:
        weight: `(outputs, inputs)`, floating point.
        bits: Bits per weight, 2 to 8.
        group_size: How many consecutive inputs share their largest weight; the last group may be shorter.

    Returns:
        A new tensor like `weight`.
    """
    steps = 2 ** (bits - 1) - 1
    inputs = weight.shape[1]
    padded = nn.functional.pad(weight.float(), (0, -inputs % group_size))
    groups = padded.reshape(len(weight), -1, group_size)
    largest = groups.abs().amax(-1, keepdim=True)
    scaled = torch.where(largest > 0, groups / largest, 0.0)
    rounded: Tensor = (scaled * steps).round() / steps * largest
    return rounded.reshape(padded.shape)[:, :inputs].to(weight.dtype)


@contextlib.contextmanager
def rounded_weights(model: Any, bits: int = 4, group_size: int = 64) -> Iterator[None]:
    """Round the weights of a model's linear layers in place, and restore them bit by bit afterwards.

    The output layer, embeddings, norms, biases and LoRA adapters keep their precision, as with bitsandbytes and GPTQ.
    Meanwhile the original weights are in the CPU's memory.

    Args:
        model: A `transformers` model, on any device.
        bits: Bits per weight, 2 to 8.
        group_size: How many consecutive inputs are scaled together.

    Raises:
        ValueError: There is nothing to round, or it is rounded already.
    """
    if not 2 <= bits <= 8 or group_size < 1:
        raise ValueError(f"bits={bits}, group_size={group_size}: use 2 to 8 bits and groups of at least one weight")
    weights = _weights(model)
    originals: list[tuple[Tensor, Tensor]] = []
    try:
        with torch.no_grad():
            for weight in weights:
                originals.append((weight, weight.to("cpu", copy=True)))
                weight.copy_(rounded_to(weight, bits, group_size))
        yield
    finally:
        with torch.no_grad():
            for weight, original in originals:
                weight.copy_(original)


def _weights(model: Any) -> list[Tensor]:
    """Return the weights of the linear layers, each once."""
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    weights = {id(layer.weight): layer.weight for name, layer in linear if "lora_" not in name}
    output = model.get_output_embeddings()  # None in a model without
    weights.pop(id(getattr(output, "weight", None)), None)
    if not weights or any(weight.is_meta or not weight.is_floating_point() for weight in weights.values()):
        raise ValueError(
            f"{type(model).__name__} has no linear layers with weights that can be rounded: load it unquantized, "
            "and onto a device (no offloading)"
        )
    return list(weights.values())
