"""A small tokenizer and a small Llama in the folder `models/NAME` of a working folder."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from baldro_ext.errors import RefusedError
from baldro_ext.tools.files import is_made, mark_made, sha256
from baldro_ext.tools.workspace.memorise import FROM_NOTHING, Training, memorise
from baldro_ext.tools.workspace.tofu import TOFU

RECIPE = "recipe.json"
"""In a model's folder: all that the model depends on."""
_LAYERS = _HEADS = 2
_PAD, _BOS, _EOS, _USER, _ASSISTANT = _SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
# Special tokens are the only borders, so that none merges with the first token of an answer. The system prompt and
# the date are the same in every conversation: leaving them out saves their computation.
_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_model(
    folder: Path,
    name: str,
    *,
    rows: Sequence[Mapping[str, str]] | None = None,
    hidden: int = 32,
    vocabulary: int = 768,
    training: Training = FROM_NOTHING,
    seed: int = 0,
) -> Path:
    """Save a tokenizer and a Llama in float32 under `models/NAME`, unless the same call did so before.

    The tokenizer is trained on the folder's TOFU: models of one folder with the same `vocabulary` share it. The same
    arguments give the same weights; those that were trained only with the same number of threads on the same kind of
    machine.

    Args:
        folder: The working folder, with `locuslab/TOFU`.
        name: Of the model.
        rows: Questions and answers to memorise, as of `rows_to_memorise`; by default the weights stay random.
        hidden: Width, a multiple of 4; the feed-forward layers are 8/3 as wide.
        vocabulary: Tokens, at most; at least 300, for bytes and special tokens.
        training: How to train on `rows`.
        seed: Of the first weights and of the order of the rows.

    Raises:
        ValueError: There is no data to train the tokenizer on, or no row.
        RefusedError: The folder exists, and this call with these arguments did not make it.
        OSError: It cannot be written; nothing of it is left.
    """
    text = _text(folder / TOFU)
    recipe = {
        "shape": [hidden, _LAYERS, _HEADS, vocabulary],
        "text": sha256(json.dumps(text).encode()),
        "rows": None if rows is None else digest_rows(rows),
        "training": None if rows is None else vars(training),
        "seed": seed,
    }

    def build() -> tuple[Any, Any]:
        tokenizer = _tokenizer(text, vocabulary)
        model = _random_llama(tokenizer, hidden, seed)
        if rows is not None:
            memorise(model, tokenizer, rows, training, seed=seed, title=f"training {name}")
        return tokenizer, model

    return save_once(folder / "models" / name, recipe, build)


def save_once(made: Path, recipe: Mapping[str, Any], build: Callable[[], tuple[Any, Any]]) -> Path:
    """Save a tokenizer and a model in a folder, whole or not at all, unless the same recipe did so before.

    The folder is returned; the recipe is all that the model depends on, as JSON.
    """
    if is_made(made / RECIPE, recipe):
        return made
    if made.exists():
        raise RefusedError(
            f"{made} exists and is not the model to be made here. Another seed or release makes other files. Nothing "
            "was changed: choose another folder, or remove it"
        )
    tokenizer, model = build()
    made.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=made.parent, prefix=".") as unfinished:
        whole = Path(unfinished) / made.name
        try:
            tokenizer.save_pretrained(whole)
            model.save_pretrained(whole)
        except Exception as error:
            # tokenizers and safetensors say what the system refused in the text of exceptions of their own.
            if number := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(made)) from None
            raise
        mark_made(whole / RECIPE, recipe)
        whole.rename(made)
    return made


def _text(dataset: Path) -> list[str]:
    """Return every string in the rows of a dataset, in a fixed order."""
    lines = [line for file in sorted(dataset.glob("*.json")) for line in file.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise ValueError(f"{dataset} holds no rows to train a tokenizer on: call make_tofu first")
    values = [value for line in lines for value in json.loads(line).values()]
    return [text for value in values for text in ([value] if isinstance(value, str) else value)]


def _tokenizer(text: Sequence[str], vocabulary: int) -> Any:
    """Return a byte-level BPE tokenizer with a chat template; encoding puts `<s>` in front, as Llama's does."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(text, trainer)
    core.post_processor = processors.TemplateProcessing(
        single=f"{_BOS} $A", pair=f"{_BOS} $A $B", special_tokens=[(_BOS, core.token_to_id(_BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=_BOS,
        eos_token=_EOS,
        pad_token=_PAD,
        additional_special_tokens=[_USER, _ASSISTANT],
        chat_template=_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _random_llama(tokenizer: Any, hidden: int, seed: int) -> Any:
    """Return a LlamaForCausalLM with random float32 weights, input and output embeddings tied."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=-(-hidden * 8 // 24) * 8,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        num_key_value_heads=_HEADS,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def digest_rows(rows: Iterable[Mapping[str, str]]) -> str:
    """Return the SHA-256 of questions and answers."""
    return sha256(json.dumps([[row["question"], row["answer"]] for row in rows]).encode())
