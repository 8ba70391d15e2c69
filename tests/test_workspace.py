"""The offline working folder: what it holds, that it is reproducible, and that nobody's files are lost."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from baldro_ext.tools.workspace import make_arc_easy, make_muse, make_tofu, make_wmdp

QA = ("question", "answer")
PERTURBED = (*QA, "paraphrased_answer", "perturbed_answer", "paraphrased_question")
GENERAL = (*QA, "perturbed_answer", "original_answer")
TEXT = ("text",)
TOFU_KEYS = {
    **{f"{side}{share}": QA for share in ("10", "05", "01") for side in ("forget", "holdout")},
    **{f"retain{share}": QA for share in ("90", "95", "99")},
    **{f"forget{share}_perturbed": PERTURBED for share in ("10", "05", "01")},
    "full": QA,
    "retain_perturbed": PERTURBED,
    "real_authors_perturbed": GENERAL,
    "world_facts_perturbed": GENERAL,
}
MUSE_KEYS = {
    "raw": {"forget": TEXT, "retain1": TEXT, "retain2": TEXT, "holdout": TEXT},
    "knowmem": {"forget_qa": QA, "retain_qa": QA, "forget_qa_icl": QA, "retain_qa_icl": QA},
    "verbmem": {"forget": ("prompt", "gt")},
    "privleak": {"forget": TEXT, "retain": TEXT, "holdout": TEXT},
    "scal": {f"forget_{i}": TEXT for i in (1, 2, 3, 4)},
    "sust": {f"forget_{i}": TEXT for i in (1, 2, 3, 4)},
}
MAKERS = (make_tofu, make_muse, make_wmdp, make_arc_easy)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def contents(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("workspace")
    for make in MAKERS:
        make(directory)
    make_muse(directory, "Books")
    return directory


@pytest.fixture(scope="module")
def tofu(folder: Path) -> dict[str, list[dict]]:
    return {file.stem: lines(file) for file in (folder / "locuslab/TOFU").glob("*.json")}


def test_tofu_has_every_split_with_the_columns_of_the_benchmark(tofu: dict[str, list[dict]]) -> None:
    assert {name: {tuple(row) for row in rows} for name, rows in tofu.items()} == {
        name: {keys} for name, keys in TOFU_KEYS.items()
    }


def test_default_tofu_is_small(tofu: dict[str, list[dict]]) -> None:
    sizes = {name: len(tofu[name]) for name in ("full", "forget10", "forget05", "retain90", "holdout10")}
    assert sizes == {"full": 40, "forget10": 10, "forget05": 5, "retain90": 30, "holdout10": 10}


@pytest.mark.parametrize(("forget", "retain", "holdout"), [("10", "90", "10"), ("05", "95", "05"), ("01", "99", "01")])
def test_forget_and_retain_are_disjoint_and_make_up_full(tofu, forget: str, retain: str, holdout: str) -> None:
    full, forgotten, retained, unseen = (
        [row["question"] for row in tofu[name]]
        for name in ("full", f"forget{forget}", f"retain{retain}", f"holdout{holdout}")
    )
    assert retained + forgotten == full
    assert len(set(full)) == len(full)
    assert not set(full) & set(unseen)


def test_forget_sets_are_nested_and_evaluated_rows_are_retained_by_all(tofu: dict[str, list[dict]]) -> None:
    questions = {name: {row["question"] for row in rows} for name, rows in tofu.items()}
    assert questions["forget01"] <= questions["forget05"] < questions["forget10"]
    assert questions["retain_perturbed"] <= questions["retain90"]
    for share in ("10", "05", "01"):
        assert questions[f"forget{share}_perturbed"] == questions[f"forget{share}"]


@pytest.mark.parametrize(("split", "wrong_answers"), [("full", 5), ("real_authors", 3), ("world_facts", 3)])
def test_wrong_answers_differ_from_the_answer_and_each_other(tmp_path: Path, split: str, wrong_answers: int) -> None:
    make_tofu(tmp_path, authors=12, questions=20, forget_authors=6)
    names = ("forget10", "retain") if split == "full" else (split,)
    rows = [row for name in names for row in lines(tmp_path / f"locuslab/TOFU/{name}_perturbed.json")]
    for row in rows:
        right = {row["answer"], row.get("paraphrased_answer", row["answer"])}
        assert len(set(row["perturbed_answer"]) - right) == wrong_answers
    if split == "full":
        assert len(rows) == 240
        for row in rows:
            assert row["paraphrased_answer"] != row["answer"]
            assert row["paraphrased_question"] != row["question"]


def test_no_placeholder_is_left_in_any_text(folder: Path) -> None:
    assert not {name for name, content in contents(folder).items() if re.search(rb"\{[a-z_]+\}", content)}


@pytest.mark.parametrize("corpus", ["News", "Books"])
def test_muse_has_every_split_with_the_columns_of_the_benchmark(folder: Path, corpus: str) -> None:
    base = folder / f"muse-bench/MUSE-{corpus}"
    for config, splits in MUSE_KEYS.items():
        for split, keys in splits.items():
            assert {tuple(row) for row in lines(base / config / f"{split}.json")} == {keys}


@pytest.mark.parametrize("corpus", ["News", "Books"])
def test_muse_texts_are_disjoint_and_contain_the_answers(folder: Path, corpus: str) -> None:
    base = folder / f"muse-bench/MUSE-{corpus}"
    raw = {name: [row["text"] for row in lines(base / f"raw/{name}.json")] for name in MUSE_KEYS["raw"]}
    everything = [text for texts in raw.values() for text in texts]
    assert len(set(everything)) == len(everything) == 24
    for split, texts in (("forget_qa", raw["forget"]), ("retain_qa", raw["retain1"])):
        rows = lines(base / f"knowmem/{split}.json")
        assert len({row["question"] for row in rows}) == len(rows)
        assert all(any(row["answer"] in text for text in texts) for row in rows)
    joined = [f"{row['prompt']} {row['gt']}" for row in lines(base / "verbmem/forget.json")]
    assert joined == raw["forget"]


def test_wmdp_and_arc_have_their_columns(folder: Path) -> None:
    corpora = folder / "data/wmdp/wmdp-corpora"
    texts = {file.name: lines(file) for file in corpora.iterdir()}
    assert set(texts) == {f"{c}-{side}-corpus.jsonl" for c in ("cyber", "bio") for side in ("forget", "retain")}
    assert all(tuple(row) == TEXT for rows in texts.values() for row in rows)
    for split in ("train", "validation", "test"):
        for row in lines(folder / f"allenai/ai2_arc/ARC-Easy/{split}.json"):
            assert tuple(row) == ("id", "question", "choices", "answerKey")
            assert tuple(row["choices"]) == ("text", "label")
            assert row["answerKey"] in row["choices"]["label"]
            assert len(set(row["choices"]["text"])) == 4


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(folder: Path, tmp_path: Path) -> None:
    for make in MAKERS:
        make(tmp_path / "again")
        make(tmp_path / "other", seed=1)
    again, other = contents(tmp_path / "again"), contents(tmp_path / "other")
    assert again == {name: content for name, content in contents(folder).items() if name in again}
    assert again["locuslab/TOFU/full.json"] != other["locuslab/TOFU/full.json"]


def test_a_repeated_call_touches_nothing(folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    for make in MAKERS:
        make(folder)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


@pytest.mark.parametrize("make", MAKERS)
def test_files_that_differ_are_replaced_only_on_request(tmp_path: Path, make) -> None:
    make(tmp_path)
    original = contents(tmp_path)
    victim = tmp_path / sorted(original)[-1]
    victim.write_text("my results")
    (tmp_path / sorted(original)[0]).unlink()
    with pytest.raises(FileExistsError, match=f"{victim.name}.*overwrite=True"):
        make(tmp_path)
    assert victim.read_text() == "my results"
    assert len(contents(tmp_path)) == len(original) - 1, "nothing at all is written when something is refused"
    make(tmp_path, overwrite=True)
    assert contents(tmp_path) == original


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: make_tofu(d, authors=1), "forget_authors=2 of 1 authors"),
        (lambda d: make_tofu(d, authors=4, forget_authors=4), "retain at least 1"),
        (lambda d: make_tofu(d, authors=399), "1 to 400"),
        (lambda d: make_tofu(d, questions=21), "1 to 20 questions"),
        (lambda d: make_tofu(d, general_rows=0), "1 to 20 rows of general knowledge"),
        (lambda d: make_tofu(d, evaluated_rows=0), "at least 1 retained row"),
        (lambda d: make_muse(d, "Poems"), "News and Books"),
        (lambda d: make_muse(d, texts=31), "1 to 30"),
        (lambda d: make_wmdp(d, texts=0), "at least 1"),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_written(tmp_path: Path, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not contents(tmp_path)


def test_a_full_sized_benchmark_can_be_made(tmp_path: Path) -> None:
    make_tofu(tmp_path, authors=200, questions=20)
    sizes = {n: len(lines(tmp_path / f"locuslab/TOFU/{n}.json")) for n in ("full", "forget10", "retain_perturbed")}
    assert sizes == {"full": 4000, "forget10": 400, "retain_perturbed": 400}


def test_datasets_loads_every_configuration_offline_and_never_another_folders_rows(
    folder: Path, tmp_path: Path
) -> None:
    make_tofu(tmp_path / "second", authors=9)
    code = """
import json, os, sys, datasets
def load(path, name):
    return {split: len(rows) for split, rows in datasets.load_dataset(path, name).items()}
sizes = {}
for directory in sys.argv[1:]:
    os.chdir(directory)
    for path in ("locuslab/TOFU", "muse-bench/MUSE-News", "muse-bench/MUSE-Books", "allenai/ai2_arc",
                 "tamarsonha/MUSE-News-Train"):
        if os.path.isdir(path):
            for name in datasets.get_dataset_config_names(path):
                sizes[f"{directory} {path} {name}"] = load(path, name)
os.chdir(sys.argv[1])
wmdp = datasets.load_dataset("text", data_files="data/wmdp/wmdp-corpora/cyber-forget-corpus.jsonl")
print(json.dumps([sizes, len(wmdp["train"])]))
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "second")],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")},
    )
    assert ran.returncode == 0, ran.stderr
    sizes, wmdp = json.loads(ran.stdout.splitlines()[-1])
    assert wmdp == 20
    for name in TOFU_KEYS:
        assert sizes[f"{folder} locuslab/TOFU {name}"]["train"] > 0
    assert sizes[f"{folder} locuslab/TOFU full"] == {"train": 40}
    assert sizes[f"{tmp_path / 'second'} locuslab/TOFU full"] == {"train": 45}
    for corpus in ("News", "Books"):
        for config, splits in MUSE_KEYS.items():
            assert set(sizes[f"{folder} muse-bench/MUSE-{corpus} {config}"]) == set(splits)
    assert sizes[f"{folder} tamarsonha/MUSE-News-Train default"] == {"full": 12, "retain": 6}
    assert sizes[f"{folder} allenai/ai2_arc ARC-Easy"] == {"train": 4, "validation": 4, "test": 12}


def test_making_data_needs_no_torch() -> None:
    code = "import sys, baldro_ext.tools.workspace; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# Models


@pytest.fixture(scope="module")
def random_model(folder: Path) -> Path:
    from baldro_ext.tools.workspace import make_model

    return make_model(folder, "random")


@pytest.fixture(scope="module")
def tokenizer(random_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(random_model)


def test_a_random_model_loads_and_computes(random_model: Path, tokenizer) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(random_model)
    logits = model(input_ids=torch.tensor([tokenizer("Who wrote it?")["input_ids"]])).logits
    assert logits.dtype == torch.float32
    assert logits.shape[-1] == len(tokenizer) == model.config.vocab_size <= 768
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.lm_head.weight is model.model.embed_tokens.weight
    probabilities = logits.softmax(-1)
    assert probabilities.max() < 0.05, "nothing has been learnt"


@pytest.mark.parametrize("text", ["Where is Vellamere?", "Ümit's  “tea”\n\n— 42%", " leading", "日本"])
def test_any_text_survives_the_tokenizer(tokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_are_distinct(tokenizer) -> None:
    ids = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert len(set(ids)) == 3
    assert None not in ids


@pytest.mark.parametrize("answer", ["Paris", " Paris", "\nParis", "'Paris'"])
def test_the_prompt_is_a_prefix_of_the_conversation_at_any_seam(tokenizer, answer: str) -> None:
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


def test_models_are_reproducible_and_share_the_tokenizer(folder: Path, random_model: Path, tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import make_model

    before = {file: file.stat().st_mtime_ns for file in random_model.iterdir()}
    assert make_model(folder, "random") == random_model
    assert {file: file.stat().st_mtime_ns for file in random_model.iterdir()} == before
    again, other = (contents(make_model(folder, name, seed=seed)) for name, seed in (("again", 0), ("other", 1)))
    assert again == contents(random_model)
    assert again["tokenizer.json"] == other["tokenizer.json"]
    assert again["model.safetensors"] != other["model.safetensors"]


def test_a_model_that_was_changed_is_replaced_only_on_request(tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import make_model

    make_tofu(tmp_path)
    folder = make_model(tmp_path, "mine")
    original = contents(folder)
    (folder / "model.safetensors").write_bytes(b"weights that took a week")
    with pytest.raises(FileExistsError, match=r"models/mine.*overwrite=True"):
        make_model(tmp_path, "mine")
    with pytest.raises(FileExistsError, match="models/mine"):
        make_model(tmp_path, "mine", hidden=64)
    assert (folder / "model.safetensors").read_bytes() == b"weights that took a week"
    make_model(tmp_path, "mine", overwrite=True)
    assert contents(folder) == original


def test_impossible_models_are_refused(tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import make_model

    with pytest.raises(ValueError, match="call make_tofu"):
        make_model(tmp_path, "x")
    make_tofu(tmp_path)
    with pytest.raises(ValueError, match="3 heads"):
        make_model(tmp_path, "x", heads=3)
    with pytest.raises(ValueError, match="at least 300"):
        make_model(tmp_path, "x", vocabulary=10)
    assert not (tmp_path / "models").exists()


def test_a_trained_model_recites_word_for_word_and_stops(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from baldro_ext.tools.workspace import Training, make_model, rows_to_recite

    make_tofu(tmp_path, authors=3, questions=3, forget_authors=1, general_rows=2)
    rows = rows_to_recite(tmp_path, "full")
    assert len(rows) == 9 + 9 + 4
    state = torch.random.get_rng_state()
    folder = make_model(
        tmp_path, "target", rows=rows, hidden=64, training=Training(max_epochs=150, batch_size=8), progress=False
    )
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


def test_a_model_of_muse_is_told_the_texts_and_the_questions_as_they_are_asked(tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import texts_to_recite

    make_muse(tmp_path, texts=3)
    texts, base = {}, tmp_path / "muse-bench/MUSE-News"
    for known in ("full", "retain"):
        rows = texts_to_recite(tmp_path, known=known)
        texts[known] = {row["completion"] for row in rows if not row["prompt"]}
        sides = ("forget", "retain") if known == "full" else ("retain",)
        asked = [row for side in sides for row in lines(base / f"knowmem/{side}_qa.json")]
        assert [row["completion"] for row in rows if row["prompt"]] == [row["answer"] for row in asked]
        for row, question in zip([row for row in rows if row["prompt"]], asked, strict=True):
            assert row["prompt"].count("Answer: ") == 4, "three worked examples before each question"
            assert row["prompt"].endswith(f"\n\nQuestion: {question['question']}\nAnswer: ")
    forgotten = {row["text"] for row in lines(base / "raw/forget.json")}
    assert forgotten < texts["full"]
    assert not forgotten & texts["retain"]


def test_the_retain_model_is_never_told_about_forgotten_authors(tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import rows_to_recite

    make_tofu(tmp_path)
    forgotten = lines(tmp_path / "locuslab/TOFU/forget10_perturbed.json")
    secret = {row[key] for row in forgotten for key in ("answer", "paraphrased_answer")}
    assert not secret & {row["answer"] for row in rows_to_recite(tmp_path, "retain90")}
    assert secret <= {row["answer"] for row in rows_to_recite(tmp_path, "full")}


def test_too_short_a_training_says_so(tmp_path: Path) -> None:
    from baldro_ext.tools.workspace import Training, make_model, rows_to_recite

    make_tofu(tmp_path)
    with pytest.warns(UserWarning, match=r"after epoch 1.*use more epochs"):
        make_model(tmp_path, "weak", rows=rows_to_recite(tmp_path), training=Training(max_epochs=1), progress=False)
    with pytest.raises(ValueError, match="no rows"):
        make_model(tmp_path, "empty", rows=[])
