"""What is trained on what: models with random weights, and batches of made-up samples."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from baldro_ext.answers import IGNORE_INDEX
from baldro_ext.data import ForgetRetainDataset
from baldro_ext.errors import BaldroError


def _llama(width: int, layers: int, heads: int, key_value_heads: int, feed_forward: int, vocabulary: int) -> Any:
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "intermediate_size": feed_forward}
    attention = {"num_attention_heads": heads, "num_key_value_heads": key_value_heads}
    return {"model_type": "llama", **sizes, **attention, "vocab_size": vocabulary}


MODELS: dict[str, dict[str, Any]] = {
    "tiny": _llama(64, 1, 1, 1, 176, 300),
    "small": _llama(256, 4, 4, 4, 688, 16_000),
    "medium": _llama(512, 8, 8, 8, 1376, 32_000),
    # Numbers of config.json in HuggingFaceTB/SmolLM2-135M, meta-llama/Llama-3.2-1B, Llama-2-7b-hf and Llama-3.1-8B, and
    # Qwen/Qwen3-8B on huggingface.co.
    "SmolLM2-135M": {**_llama(576, 30, 9, 3, 1536, 49_152), "tie_word_embeddings": True},
    "Llama-3.2-1B": {**_llama(2048, 16, 32, 8, 8192, 128_256), "tie_word_embeddings": True},
    "Llama-2-7B": _llama(4096, 32, 32, 32, 11_008, 32_000),
    "Llama-3.1-8B": _llama(4096, 32, 32, 8, 14_336, 128_256),
    "Qwen3-8B": {**_llama(4096, 36, 32, 8, 12_288, 151_936), "model_type": "qwen3", "head_dim": 128},
}
"""Arguments of `AutoConfig.for_model` by name."""


def configuration(name: str, **changes: Any) -> PretrainedConfig:
    """Return the configuration of a model in `MODELS`, with changes; BaldroError if transformers is too old for it."""
    try:
        return AutoConfig.for_model(**{"max_position_embeddings": 8192, **MODELS[name], **changes})
    except ValueError as error:
        raise BaldroError(f"this release of transformers does not know {name}: {error}") from None


def build_model(config: PretrainedConfig, device: torch.device, dtype: torch.dtype) -> Any:
    """Return a model in training mode, with the same random weights every time."""
    config.use_cache = False
    torch.manual_seed(0)
    with device:  # large models are never built on the CPU first
        return AutoModelForCausalLM.from_config(config, torch_dtype=dtype, attn_implementation="sdpa").train()


@dataclass(frozen=True)
class Batch:
    """What a training step works on."""

    size: int = 8  # forget samples; as many retain samples
    length: int = 96  # tokens per sample
    prompt: int = 40  # how many of them are prompt, without loss
    different: int = 2  # how many different batches there are

    @property
    def rows(self) -> list[range]:
        """The forget samples of each batch."""
        return [range(start, start + self.size) for start in range(0, self.size * self.different, self.size)]

    def samples(self, vocabulary: int) -> ForgetRetainDataset:
        """Return made-up samples, the same every time, for all batches."""
        shape = (2, self.size * self.different, self.length)
        tokens = torch.randint(1, vocabulary, shape, generator=torch.Generator().manual_seed(0))
        labels = tokens.index_fill(-1, torch.arange(self.prompt), IGNORE_INDEX)
        mask = torch.ones_like(tokens[0, 0])
        return ForgetRetainDataset(
            *(
                [{"input_ids": t, "labels": row, "attention_mask": mask} for t, row in zip(*side, strict=True)]
                for side in zip(tokens, labels, strict=True)
            )
        )
