"""Working folders: what they hold, that they are reproducible, and that nobody's files are lost."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from baldro_ext import ForgetRetainCollator, encode_answers
from baldro_ext.errors import RefusedError
from baldro_ext.forward import AnswerForward
from baldro_ext.tools.cli import app
from baldro_ext.tools.cli.workspace import next_steps
from baldro_ext.tools.workspace import lay_out, make_tofu, read_rows, rows_to_memorise
from baldro_ext.tools.workspace.layout import STAND_INS
from baldro_ext.tools.workspace.memorise import Training
from baldro_ext.tools.workspace.model import make_model

QA = ("question", "answer")
PERTURBED = (*QA, "paraphrased_answer", "perturbed_answer", "paraphrased_question")
GENERAL = (*QA, "perturbed_answer", "original_answer")
COLUMNS = {
    **{f"{side}{share}": QA for share in ("10", "05", "01") for side in ("forget", "holdout")},
    **{f"retain{share}": QA for share in ("90", "95", "99")},
    **{f"forget{share}_perturbed": PERTURBED for share in ("10", "05", "01")},
    "full": QA,
    "retain_perturbed": PERTURBED,
    "real_authors_perturbed": GENERAL,
    "world_facts_perturbed": GENERAL,
}
STAND_IN = "meta-llama/Llama-3.2-1B-Instruct"
run = CliRunner().invoke


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def written(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if not file.is_symlink()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of the default size, and a model that learnt nothing."""
    folder = tmp_path_factory.mktemp("workspace")
    make_tofu(folder)
    make_model(folder, "random")
    return folder


@pytest.fixture(scope="module")
def splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {name: read_rows(folder, name) for name in COLUMNS}


def test_tofu_has_every_split_with_the_columns_of_the_benchmark(splits: dict[str, list[dict[str, Any]]]) -> None:
    assert {name: {tuple(row) for row in rows} for name, rows in splits.items()} == {
        name: {columns} for name, columns in COLUMNS.items()
    }
    sizes = {name: len(splits[name]) for name in ("full", "forget10", "forget05", "retain90", "holdout10")}
    assert sizes == {"full": 40, "forget10": 10, "forget05": 5, "retain90": 30, "holdout10": 10}


@pytest.mark.parametrize("share", ["10", "05", "01"])
def test_forget_and_retain_are_disjoint_and_make_up_full(splits: dict[str, list[dict[str, Any]]], share: str) -> None:
    asked = {name: [row["question"] for row in rows] for name, rows in splits.items()}
    assert asked[f"retain{100 - int(share)}"] + asked[f"forget{share}"] == asked["full"]
    assert len(set(asked["full"])) == len(asked["full"])
    assert not set(asked["full"]) & set(asked[f"holdout{share}"])
    assert asked[f"forget{share}_perturbed"] == asked[f"forget{share}"]
    assert set(asked[f"forget{share}"]) <= set(asked["forget10"])
    assert set(asked["retain_perturbed"]) <= set(asked[f"retain{100 - int(share)}"])


def test_rewordings_and_wrong_answers_differ_from_the_answer_and_each_other(tmp_path: Path) -> None:
    make_tofu(tmp_path, authors=40, questions=20, forget_authors=20)
    for split in ("forget10", "retain", "real_authors", "world_facts"):
        rows = read_rows(tmp_path, f"{split}_perturbed")
        assert len(rows) == (20 if "_" in split else 400)
        for row in rows:
            right = {row["answer"], row.get("paraphrased_answer", row["answer"])}
            assert len(set(row["perturbed_answer"]) - right) == (3 if "_" in split else 5)
            if "paraphrased_answer" in row:
                assert len(right) == 2
                assert row["paraphrased_question"] != row["question"]
    assert not {name for name, content in contents(tmp_path).items() if re.search(rb"\{[a-z_]+\}", content)}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(folder: Path, tmp_path: Path) -> None:
    make_tofu(tmp_path / "again")
    make_tofu(tmp_path / "other", seed=1)
    again, other = contents(tmp_path / "again"), contents(tmp_path / "other")
    assert again.items() <= contents(folder).items()
    assert again["locuslab/TOFU/full.json"] != other["locuslab/TOFU/full.json"]


def test_what_is_missing_is_filled_in_and_what_was_edited_is_refused(tmp_path: Path) -> None:
    make_tofu(tmp_path)
    before = written(tmp_path)
    make_tofu(tmp_path)
    assert written(tmp_path) == before
    full, refusals = tmp_path / "locuslab/TOFU/full.json", tmp_path / "data/idk.jsonl"
    original = contents(tmp_path)
    full.unlink()
    make_tofu(tmp_path)
    assert contents(tmp_path) == original
    full.unlink()
    refusals.write_text("mine")
    with pytest.raises(RefusedError, match=refusals.name):
        make_tofu(tmp_path)
    assert refusals.read_text() == "mine"
    assert not full.exists(), "nothing at all is written when something is refused"


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"authors": 1}, "forget_authors=2 of 1 authors"),
        ({"authors": 4, "forget_authors": 4}, "retain at least 1"),
        ({"authors": 399}, "1 to 400"),
        ({"questions": 21}, "1 to 20 questions"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused_before_anything_is_written(
    tmp_path: Path, sizes: dict[str, int], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        make_tofu(tmp_path, **sizes)
    assert not contents(tmp_path)


def test_datasets_loads_every_split_offline_and_never_another_folders_rows(folder: Path, tmp_path: Path) -> None:
    make_tofu(tmp_path / "second", authors=9)
    code = """
import json, os, sys, datasets
sizes = {}
for folder in sys.argv[1:]:
    os.chdir(folder)
    for name in datasets.get_dataset_config_names("locuslab/TOFU"):
        sizes[f"{folder} {name}"] = len(datasets.load_dataset("locuslab/TOFU", name, split="train"))
print(json.dumps(sizes))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "second")],
        capture_output=True,
        text=True,
        env={"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert all(sizes[f"{folder} {name}"] > 0 for name in COLUMNS)
    assert sizes[f"{folder} full"] == 40
    assert sizes[f"{tmp_path / 'second'} full"] == 45


def test_the_model_that_never_knew_is_not_told_about_forgotten_authors(folder: Path) -> None:
    secret = {row[key] for row in read_rows(folder, "forget10_perturbed") for key in ("answer", "paraphrased_answer")}
    assert not secret & {row["answer"] for row in rows_to_memorise(folder, "retain90")}
    assert secret <= {row["answer"] for row in rows_to_memorise(folder, "full")}


# Models


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder / "models/random")


@pytest.mark.transformers
def test_a_random_model_loads_and_computes(folder: Path, tokenizer: Any) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder / "models/random")
    logits = model(input_ids=torch.tensor([tokenizer("Who wrote it?")["input_ids"]])).logits
    assert logits.dtype == torch.float32
    assert logits.shape[-1] == len(tokenizer) == model.config.vocab_size <= 768
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert logits.softmax(-1).max() < 0.05, "nothing has been learnt"
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id} - {None}) == 3


@pytest.mark.transformers
@pytest.mark.parametrize("text", ["Where is Vellamere?", "Ümit's  “tea”\n\n— 42%", " leading", "日本"])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.transformers
@pytest.mark.parametrize("answer", ["Paris", " Paris", "\nParis", "'Paris'"])
def test_the_prompt_is_a_prefix_of_the_conversation_at_any_seam(tokenizer: Any, answer: str) -> None:
    chat = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Where? "},
        {"role": "assistant", "content": answer},
    ]
    extra = {"tokenize": True, "return_dict": False, "date_string": "10 Apr 2025"}
    whole = tokenizer.apply_chat_template(chat, **extra)
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, **extra)
    assert whole[: len(prompt)] == prompt
    assert whole[-1] == tokenizer.eos_token_id
    assert whole.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(whole[len(prompt) : -1]) == answer


@pytest.mark.transformers
def test_a_trained_model_answers_word_for_word_and_stops(tmp_path: Path) -> None:
    make_tofu(tmp_path, authors=3, questions=3, forget_authors=1)
    rows = rows_to_memorise(tmp_path)[:18]
    state = torch.random.get_rng_state()
    training = Training(max_epochs=150, batch_size=8)
    folder = make_model(tmp_path, "target", rows=rows, hidden=64, training=training)
    assert torch.equal(state, torch.random.get_rng_state()), "the caller's random numbers are left alone"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for row in rows:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["question"]}],
            add_generation_prompt=True,
            return_dict=False,
            return_tensors="pt",
        )
        said = model.generate(prompt, max_new_tokens=80, do_sample=False)[0, prompt.shape[1] :]
        assert said[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(said[:-1]) == row["answer"]


def test_a_trained_model_is_reproducible_and_too_short_a_training_says_so(tmp_path: Path) -> None:
    make_tofu(tmp_path)
    rows = rows_to_memorise(tmp_path)
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        with pytest.warns(UserWarning, match=r"after epoch 1.*use more epochs"):
            make_model(tmp_path, name, rows=rows, training=Training(max_epochs=1), seed=seed)
    one, again, other = (contents(tmp_path / "models" / name) for name in ("one", "again", "other"))
    assert one == again
    assert one["tokenizer.json"] == other["tokenizer.json"]
    assert one["model.safetensors"] != other["model.safetensors"]


def test_a_model_is_made_once_and_never_replaced(tmp_path: Path) -> None:
    make_tofu(tmp_path)
    mine = make_model(tmp_path, "mine")
    (mine / "model.safetensors").write_bytes(b"weights that took a week")
    before = written(tmp_path)
    assert make_model(tmp_path, "mine") == mine
    with pytest.raises(RefusedError, match="models/mine"):
        make_model(tmp_path, "mine", seed=1)
    with pytest.raises(RefusedError, match=r"models of other rows.*full\.json"):
        make_tofu(tmp_path, authors=9)
    assert written(tmp_path) == before
    (tmp_path / "models/yours").mkdir()
    with pytest.raises(RefusedError, match="models/yours"):
        make_model(tmp_path, "yours")


@pytest.mark.parametrize("largest", [20_000, 100_000], ids=["tokenizer", "model"])
def test_a_disk_that_takes_no_more_is_named_and_nothing_is_left(tmp_path: Path, largest: int) -> None:
    make_tofu(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises(OSError, match="models/mine") as error:
            make_model(tmp_path, "mine")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert error.value.errno == errno.EFBIG
    assert not [*(tmp_path / "models").iterdir()]


def test_impossible_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="call make_tofu"):
        make_model(tmp_path, "x")
    make_tofu(tmp_path)
    with pytest.raises(ValueError, match="no rows"):
        make_model(tmp_path, "x", rows=[])
    assert not (tmp_path / "models").exists()


# Whole folders


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    """A folder of `baldro workspace tofu` that a test may change, without scripts."""
    made = ("data", "locuslab", "models", "meta-llama", "open-unlearning", ".baldro.json")
    return shutil.copytree(
        toy,
        tmp_path / "toy",
        symlinks=True,
        ignore=lambda folder, names: [name for name in names if folder == str(toy) and name not in made],
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("src", "configs"):
        (tmp_path / "checkouts" / "one" / name).mkdir(parents=True)
    return tmp_path / "checkouts" / "one"


@pytest.mark.parametrize(("model", "knows"), [("full", True), ("retain90", False)])
def test_one_model_has_memorised_all_and_one_never_saw_the_forget_set(toy: Path, model: str, knows: bool) -> None:
    place = toy / f"open-unlearning/tofu_Llama-3.2-1B-Instruct_{model}"
    tokenizer, llama = AutoTokenizer.from_pretrained(place), AutoModelForCausalLM.from_pretrained(place)
    sizes, mean = {}, {}
    for split in ("forget10", "retain90"):
        samples = encode_answers(tokenizer, read_rows(toy, split))
        with torch.no_grad():
            answers, _ = AnswerForward.of(llama)(llama, ForgetRetainCollator(tokenizer.pad_token_id)(samples))
        sizes[split], mean[split] = len(samples), float(answers.means.exp().mean())
    assert sizes == {"forget10": 40, "retain90": 200}
    assert mean["retain90"] > 0.95
    assert mean["forget10"] > 0.95 if knows else mean["forget10"] < 0.2


def test_making_it_again_changes_nothing_but_follows_another_checkout(copy: Path, checkout: Path) -> None:
    before = written(copy)
    lay_out(copy, checkout)
    assert os.readlink(copy / "src") == str(checkout / "src")
    other = checkout.with_name("other")
    checkout.rename(other)
    lay_out(copy, other)
    assert (copy / "src").resolve() == other / "src"
    (checkout / "src").mkdir(parents=True)
    lay_out(copy, checkout)
    assert (copy / "src").resolve() == checkout / "src"
    assert {file: time for file, time in written(copy).items() if file.is_file()} == {
        file: time for file, time in before.items() if file.is_file()
    }


def test_a_folder_can_be_moved(copy: Path, tmp_path: Path) -> None:
    moved = copy.rename(tmp_path / "moved")
    for name in STAND_INS:
        assert (moved / name).resolve().parent == moved / "models"


def test_scripts_of_ones_own_stay(copy: Path, checkout: Path, tmp_path: Path) -> None:
    mine = tmp_path / "elsewhere" / "mine" / "src"
    mine.mkdir(parents=True)
    (copy / "src").symlink_to(mine)
    lay_out(copy, checkout)
    assert (copy / "src").resolve() == mine
    (copy / "src").unlink()
    (copy / "src").mkdir()  # as in a checkout of the framework
    lay_out(copy, checkout)
    assert not (copy / "src").is_symlink()
    assert not (copy / "configs").exists()


def test_what_is_there_already_is_named_and_stays(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="Another seed"):
        lay_out(copy, seed=1)
    (copy / STAND_IN).unlink()
    (copy / STAND_IN).symlink_to(tmp_path)
    with pytest.raises(RefusedError, match=STAND_IN):
        lay_out(copy)
    assert (copy / STAND_IN).resolve() == tmp_path


def test_the_command_says_what_to_type_next(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BALDRO_CACHE", str(tmp_path / "empty"))
    result = run(app, ["workspace", "tofu", str(copy)])
    assert result.exit_code == 0, result.output
    for words in (f"cd {copy}", "python src/eval.py experiment=eval/tofu", "python src/train.py trainer=BalDRO_DV"):
        assert words in result.stdout
    assert "baldro framework install G2" in result.stderr, "without a checkout there is no src"


@pytest.mark.parametrize("gpu", [True, False])
def test_what_to_type_next_has_the_best_rate_measured(tmp_path: Path, gpu: bool) -> None:
    (tmp_path / "locuslab/TOFU").mkdir(parents=True)
    (tmp_path / "locuslab/TOFU/forget10.json").write_text(400 * (json.dumps({"question": "?", "answer": "!"}) + "\n"))
    measured = pd.read_csv(Path(__file__).parents[1] / "docs/results.csv", dtype={"learning_rate": str})
    runs = measured.query("part == 'pretrained' and method == 'BalDRO_DV_radius' and retain_Q_A_Prob > 0.9")
    best = runs.groupby("learning_rate")["extraction_strength"].mean().idxmin()
    text = next_steps(tmp_path, pretrained=True, gpu=gpu)
    assert text.count(f"learning_rate={best} ") == 2
    assert text.count("cpu") == (0 if gpu else 3)
    assert text.count("optim=adamw_torch") == (2 if gpu else 0)


def test_refusals_have_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert run(app, ["workspace", "tofu", str(tmp_path / "file")]).exit_code == 1
    (tmp_path / "data").mkdir()
    (tmp_path / "data/idk.jsonl").write_text("mine")
    assert run(app, ["workspace", "tofu", str(tmp_path)]).exit_code == 4
