"""A working folder with a pretrained model: conversion from GGUF, tokens as the framework's, TOFU's text, refusals.

A small GGUF file made here has the layout of the real one, of which one test takes the copy in the cache, if any.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from baldro_ext import encode_answers
from baldro_ext.errors import RefusedError, UsageError
from baldro_ext.tools.cli import app
from baldro_ext.tools.workspace import make_tofu, read_rows
from baldro_ext.tools.workspace.model import make_model
from baldro_ext.tools.workspace.tofu import copy_tofu

gguf = pytest.importorskip("gguf")
pretrained = pytest.importorskip("baldro_ext.tools.workspace.pretrained")

CONFIG = yaml.safe_load((Path(__file__).parents[1] / "configs/model/SmolLM2-135M-Instruct.yaml").read_text())
TAGS = CONFIG["template_args"]
# As SmolLM2's ends a message, by a line break after the end token.
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
run = CliRunner().invoke


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file with random weights, whose tokens are bytes and one merged pair."""
    from tokenizers.pre_tokenizers import ByteLevel

    file = tmp_path_factory.mktemp("gguf") / "small.gguf"
    tokens = [*SPECIAL, *sorted(ByteLevel.alphabet()), "on"]
    writer = gguf.GGUFWriter(file, "llama")
    for add, value in (
        (writer.add_name, "small"),
        (writer.add_block_count, 1),
        (writer.add_context_length, 256),
        (writer.add_embedding_length, 16),
        (writer.add_feed_forward_length, 32),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 1),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_vocab_size, len(tokens)),
        (writer.add_rope_dimension_count, 8),
        (writer.add_tokenizer_model, "gpt2"),
        (writer.add_token_list, tokens),
        (writer.add_token_types, [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))),
        (writer.add_token_merges, ["o n"]),
        (writer.add_bos_token_id, 1),
        (writer.add_eos_token_id, 2),
        (writer.add_chat_template, TEMPLATE),
    ):
        add(value)
    rng = np.random.default_rng(0)
    for name, shape in {
        "token_embd": (len(tokens), 16),
        "blk.0.attn_q": (16, 16),
        "blk.0.attn_k": (8, 16),
        "blk.0.attn_v": (8, 16),
        "blk.0.attn_output": (16, 16),
        "blk.0.ffn_gate": (32, 16),
        "blk.0.ffn_up": (32, 16),
        "blk.0.ffn_down": (16, 32),
        "blk.0.attn_norm": (16,),
        "blk.0.ffn_norm": (16,),
        "output_norm": (16,),
    }.items():
        writer.add_tensor(f"{name}.weight", rng.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def converted(small: Path) -> tuple[Any, Any]:
    tokenizer, model = pretrained.convert(small)
    return tokenizer, model


@pytest.mark.transformers
def test_a_converted_model_survives_saving(converted: tuple[Any, Any], tmp_path: Path) -> None:
    tokenizer, model = converted
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    again, text = AutoTokenizer.from_pretrained(tmp_path), "London in 1984, Ümit's"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert [again.pad_token_id, again.bos_token_id, again.eos_token_id] == [0, 1, 2]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert (loaded.generation_config.eos_token_id, loaded.generation_config.pad_token_id) == (2, 0)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.transformers
def test_merges_apply_within_words_and_digits_stand_alone(converted: tuple[Any, Any]) -> None:
    tokenizer, _ = converted
    assert tokenizer.convert_ids_to_tokens(tokenizer("London 19")["input_ids"]) == ["L", "on", "d", "on", "Ġ", "1", "9"]


@pytest.mark.transformers
def test_samples_are_those_of_the_model_configuration(converted: tuple[Any, Any]) -> None:
    tokenizer, _ = converted
    row = {"question": "Where? ", "answer": "London"}
    (sample,) = encode_answers(tokenizer, [row], system_prompt=TAGS["system_prompt"])
    prompt = "".join(
        (TAGS["system_prompt_with_special_tokens"], TAGS["user_start_tag"], row["question"], TAGS["user_end_tag"])
    )
    ids = tokenizer(prompt + TAGS["asst_start_tag"] + row["answer"])["input_ids"] + [tokenizer.eos_token_id]
    assert sample["input_ids"] == ids
    assert tokenizer.decode([label for label in sample["labels"] if label >= 0]) == "London<|im_end|>"


def test_the_lesson_is_the_split_and_is_learnt_once(tmp_path: Path) -> None:
    make_tofu(tmp_path, authors=2, questions=1, forget_authors=1)
    base = make_model(tmp_path, "base")
    with pytest.warns(UserWarning, match="after epoch 30"):
        taught = pretrained.teach(tmp_path, "target", base, "full")
    written = (taught / "model.safetensors").stat().st_mtime_ns
    assert pretrained.teach(tmp_path, "target", base, "full") == taught
    assert (taught / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(RefusedError):
        pretrained.teach(tmp_path, "target", base, "retain90")
    before, after = (AutoModelForCausalLM.from_pretrained(place) for place in (base, taught))
    assert not torch.equal(before.lm_head.weight, after.lm_head.weight)


def test_a_text_is_copied_with_fewer_rows_to_retain(tmp_path: Path) -> None:
    text, folder = tmp_path / "text", tmp_path / "copy"
    make_tofu(text, authors=5, questions=4, forget_authors=2)
    copy_tofu(text, folder, retain_rows=3)
    retained, forgotten = read_rows(text, "retain90")[:3], read_rows(text, "forget10")
    assert read_rows(folder, "retain90") == retained
    assert read_rows(folder, "full") == retained + forgotten
    assert read_rows(folder, "retain95") == retained + forgotten[:4], "forget05 is the last of the two authors"
    assert [row["question"] for row in read_rows(folder, "retain_perturbed")] == [row["question"] for row in retained]
    assert read_rows(folder, "forget10_perturbed") == read_rows(text, "forget10_perturbed")
    (folder / "models").mkdir()
    with pytest.raises(RefusedError, match=r"retain90\.json"):
        copy_tofu(text, folder, retain_rows=4)
    assert len(read_rows(folder, "retain90")) == 3, "models that were taught these rows keep them"
    with pytest.raises(UsageError, match=r"full\.json"):
        copy_tofu(tmp_path, folder)


def test_refusals_have_exit_codes(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "cache"))
    command = ["workspace", "tofu", str(tmp_path / "smol")]
    assert run(app, [*command, "--text", str(tmp_path)]).exit_code == 2
    assert run(app, [*command, "--pretrained", "--retain-rows", "4"]).exit_code == 2
    assert run(app, [*command, "--pretrained", "--text", str(tmp_path)]).exit_code == 2
    wrong = run(app, [*command, "--pretrained", "--wheel", str(small)])
    assert wrong.exit_code == 3
    assert pretrained.WHEEL in wrong.stderr
    assert not [*tmp_path.glob("cache/**/*.gguf")], "an unknown file does not enter the cache"


@pytest.mark.skipif(not pretrained.cached().exists(), reason="baldro workspace tofu --pretrained was not run here")
def test_the_real_model_knows_the_capital_of_france() -> None:
    tokenizer, model = pretrained.convert(pretrained.gguf_file())
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False, return_tensors="pt")
    said = model.generate(prompt, max_new_tokens=12, do_sample=False)[0, prompt.shape[1] :]
    assert tokenizer.decode(said) == "The capital of France is Paris.<|im_end|>"
    (sample,) = encode_answers(tokenizer, [{"question": chat[0]["content"], "answer": "Paris"}])
    tags = TAGS["system_prompt_with_special_tokens"] + TAGS["user_start_tag"] + chat[0]["content"]
    tags += TAGS["user_end_tag"] + TAGS["asst_start_tag"] + "Paris"
    assert sample["input_ids"] == [*tokenizer(tags)["input_ids"], tokenizer.eos_token_id]
