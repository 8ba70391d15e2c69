"""A small tokenizer and a small Llama in the folder `models/NAME` of a working folder.

The files are written in the oldest layout that is supported, so that a model made with one release of
transformers loads in all of them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from baldro_ext.tools.workspace.files import refuse_to_replace, write_files
from baldro_ext.tools.workspace.recitation import Training, recite

PAD, BOS, EOS, USER, ASSISTANT = SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
# Special tokens are the only borders, so no border can merge with the first token of an answer. The
# system prompt and the date are the same in every conversation: leaving them out saves their computation.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXT_FOLDERS = ("locuslab", "muse-bench", "data", "allenai")
_RECIPE = "recipe.json"
_PAIR = ("question", "answer", "prompt", "completion")


def make_model(
    directory: str | Path,
    name: str,
    *,
    rows: Sequence[Mapping[str, str]] | None = None,
    datasets: Sequence[str] = TEXT_FOLDERS,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 2,
    vocabulary: int = 768,
    training: Training | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write a tokenizer and a Llama in float32 under `models/NAME`, loadable with `from_pretrained`.

    The tokenizer is trained on datasets of the working folder: models made over the same datasets with
    the same `vocabulary` share it. A call that repeats the one that wrote the folder changes nothing. The
    files are the same byte by byte for the same arguments; weights that were trained only with the same
    number of threads on the same kind of machine.

    Args:
        directory: the working folder, with at least one dataset.
        name: of the model; its folder is `directory/models/name`.
        rows: pairs to recite, as from `rows_to_recite` or `texts_to_recite`; by default the weights stay random.
        datasets: folders below `directory` whose text the tokenizer is trained on, as far as they are there.
        hidden: width; the feed-forward layers are 8/3 as wide.
        layers: number of transformer layers.
        heads: attention heads; must divide `hidden` into even parts.
        vocabulary: tokens, at most; at least 300.
        training: how to train on `rows`; by default `Training()`.
        seed: of the initial weights and of the order of the rows.
        overwrite: replace an existing folder that differs.
        progress: show a bar while training.

    Returns:
        `directory/models/name`.

    Raises:
        ValueError: the shape is impossible or there is no dataset to train the tokenizer on.
        FileExistsError: the folder exists and was not written by the same call, or was changed since.
    """
    if hidden % (2 * heads):
        raise ValueError(f"hidden={hidden} cannot be split into {heads} heads of an even width")
    text = workspace_text(Path(directory), datasets)
    rows = None if rows is None else [{key: row[key] for key in _PAIR if key in row} for row in rows]
    recipe = {
        "hidden": hidden,
        "layers": layers,
        "heads": heads,
        "vocabulary": vocabulary,
        "seed": seed,
        "text": _digest("\n".join(text).encode()),
        "rows": None if rows is None else _digest(json.dumps(rows).encode()),
        "training": None if rows is None else repr(training or Training()),
    }
    folder = Path(directory) / "models" / name
    if _was_made_by(folder, recipe):
        return folder
    if folder.exists():
        if not overwrite:
            refuse_to_replace(Path(directory), [f"models/{name}"])
        shutil.rmtree(folder)

    tokenizer_files = train_tokenizer(text, vocabulary)
    tokenizer = _tokenizer(tokenizer_files)
    model = random_llama(len(tokenizer), hidden, layers, heads, seed)
    if rows is not None:
        recite(model, tokenizer, rows, training or Training(), seed=seed, progress=progress)
    files = {**tokenizer_files, **_model_files(model)}
    recipe["files"] = {file: _digest(content) for file, content in files.items()}
    write_files(folder, {**files, _RECIPE: _json(recipe)})
    return folder


def workspace_text(directory: Path, datasets: Sequence[str] = TEXT_FOLDERS) -> list[str]:
    """Return every string in some datasets of a working folder, in a fixed order.

    Raises:
        ValueError: there is none.
    """
    files = [
        file for top in datasets for file in sorted((directory / top).rglob("*.json*")) if not file.name.startswith(".")
    ]
    found: list[str] = []
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            found += _strings(json.loads(line)) if line.startswith("{") else [line]
    if not found:
        raise ValueError(f"{directory} holds no dataset to train a tokenizer on: call make_tofu or another first")
    return found


def train_tokenizer(text: Sequence[str], vocabulary: int) -> dict[str, bytes]:
    """Return the files of a byte-level BPE tokenizer with chat template, at most `vocabulary` tokens.

    Every text can be encoded and decoded back; encoding puts `<s>` in front, as Llama's does.

    Raises:
        ValueError: `vocabulary` leaves no room beside the 256 bytes and the special tokens.
    """
    if vocabulary < 300:
        raise ValueError(f"vocabulary={vocabulary} is too small for bytes and special tokens: use at least 300")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, core.token_to_id(BOS))]
    )
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "additional_special_tokens": [USER, ASSISTANT],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
        "padding_side": "left",
    }
    return {"tokenizer.json": core.to_str(pretty=True).encode(), "tokenizer_config.json": _json(config)}


def random_llama(vocabulary: int, hidden: int, layers: int, heads: int, seed: int) -> Any:
    """Return a LlamaForCausalLM with random float32 weights, input and output embeddings tied."""
    config = LlamaConfig(**_config(vocabulary, hidden, layers, heads))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def _config(vocabulary: int, hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": -(-hidden * 8 // 24) * 8,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "pad_token_id": SPECIAL_TOKENS.index(PAD),
        "bos_token_id": SPECIAL_TOKENS.index(BOS),
        "eos_token_id": SPECIAL_TOKENS.index(EOS),
    }


def _tokenizer(files: Mapping[str, bytes]) -> Any:
    config = json.loads(files["tokenizer_config.json"])
    del config["tokenizer_class"]
    core = Tokenizer.from_str(files["tokenizer.json"].decode())
    return PreTrainedTokenizerFast(tokenizer_object=core, **config)


def _model_files(model: Any) -> dict[str, bytes]:
    shape = model.config
    config = _config(shape.vocab_size, shape.hidden_size, shape.num_hidden_layers, shape.num_attention_heads)
    ids = {key: config[key] for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    weights = {key: value for key, value in model.state_dict().items() if key != "lm_head.weight"}
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32"}
    return {
        "config.json": _json({**kind, **config}),
        "generation_config.json": _json(ids),
        "model.safetensors": save(weights, metadata={"format": "pt"}),
    }


def _was_made_by(folder: Path, recipe: Mapping[str, Any]) -> bool:
    """Whether `folder` holds exactly what a call with `recipe` wrote."""
    record = folder / _RECIPE
    if not record.is_file():
        return False
    written = json.loads(record.read_text(encoding="utf-8"))
    files = written.pop("files", {})
    return written == recipe and all(
        (folder / file).is_file() and _digest((folder / file).read_bytes()) == digest for file, digest in files.items()
    )


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in _strings(item)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
