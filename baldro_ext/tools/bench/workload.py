"""What is measured: the shape of a Llama with random weights, and made-up forget and retain samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from baldro_ext.logprobs import IGNORE_INDEX


@dataclass(frozen=True)
class Shape:
    """A Llama's size.

    Attributes:
        hidden: Width.
        layers: Number of transformer layers.
        heads: Attention heads.
        key_value_heads: Heads that keys and values have.
        feed_forward: Width of the feed-forward layers.
        vocabulary: Number of tokens.
        tied: Whether the output layer is the embedding.
    """

    hidden: int = 512
    layers: int = 8
    heads: int = 8
    key_value_heads: int = 8
    feed_forward: int = 1376
    vocabulary: int = 32_000
    tied: bool = False

    def build(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return a model of this shape in training mode, its weights random."""
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.feed_forward,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            tie_word_embeddings=self.tied,
            max_position_embeddings=8192,
            use_cache=False,
            attn_implementation="sdpa",
        )
        torch.manual_seed(0)
        default = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with device:  # large models are never built on the CPU first
                model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(default)
        return model.train()  # type: ignore[no-any-return]


SHAPES: dict[str, Shape] = {
    "small": Shape(hidden=256, layers=4, heads=4, key_value_heads=4, feed_forward=688, vocabulary=16_000),
    "medium": Shape(),
    "llama-3.2-1b": Shape(2048, 16, 32, 8, 8192, 128_256, tied=True),
    "llama-3.1-8b": Shape(4096, 32, 32, 8, 14_336, 128_256),
}
"""Shapes by name; the last two are those of the models called so."""


@dataclass(frozen=True)
class Load:
    """What one training step works on.

    Attributes:
        batch: Forget samples per step; as many retain samples.
        length: Tokens per sample.
        prompt: How many of them are prompt, without loss.
        batches: Different batches to cycle through.
    """

    batch: int = 8
    length: int = 96
    prompt: int = 40
    batches: int = 2

    @property
    def tokens(self) -> int:
        """Tokens per step, of forget and retain samples together."""
        return 2 * self.batch * self.length


class MadeUpPairs(Dataset[dict[str, Any]]):
    """Random forget and retain samples in the layout of the framework's unlearning datasets."""

    anchor = "forget"

    def __init__(self, load: Load, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (2, load.batch * load.batches, load.length)
        tokens = torch.randint(1, vocabulary, size, generator=generator)
        self.forget, self.retain = ([_sample(row, load.prompt) for row in side] for side in tokens)

    def __len__(self) -> int:
        return len(self.forget)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"forget": self.forget[index], "retain": self.retain[index]}


def _sample(tokens: Tensor, prompt: int) -> dict[str, Tensor]:
    labels = tokens.clone()
    labels[:prompt] = IGNORE_INDEX
    return {"input_ids": tokens, "labels": labels, "attention_mask": torch.ones_like(tokens)}


def stack(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collate samples of equal length, or pairs of them."""
    return {
        key: stack([item[key] for item in items])
        if isinstance(items[0][key], Mapping)
        else torch.stack([item[key] for item in items])
        for key in items[0]
    }
