"""The plain host: unlearning with `transformers.Trainer` and one's own data, without any framework."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from baldro_ext import BalDROTrainer, ForgetRetainCollator, ForgetRetainDataset, encode_answers
from baldro_ext.tools.workspace import make_tofu, read_rows
from baldro_ext.tools.workspace.model import make_model

pytestmark = pytest.mark.transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plain")
    make_tofu(directory)
    return make_model(directory, "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder.parents[1], "full")


@pytest.fixture
def build(folder: Path, tokenizer: Any, rows: list[dict[str, str]], tmp_path: Path) -> Any:
    """A function that makes a trainer on 8 forget and 12 retain samples."""

    def make(arguments: dict[str, Any] | None = None, **settings: Any) -> BalDROTrainer:
        samples = encode_answers(tokenizer, rows[:20])
        settings.setdefault("train_dataset", ForgetRetainDataset(samples[:8], samples[8:]))
        defaults = {"max_steps": 6, "learning_rate": 1e-3, "per_device_train_batch_size": 4, "logging_steps": 1}
        arguments = defaults | {"use_cpu": True, "report_to": [], "disable_tqdm": True} | (arguments or {})
        return BalDROTrainer(
            AutoModelForCausalLM.from_pretrained(folder),
            TrainingArguments(str(tmp_path / "out"), **arguments),
            processing_class=tokenizer,
            **settings,
        )

    return make


class Stored:
    """A dataset of somebody's own: stored pairs, and the forget samples by a property."""

    def __init__(self, forget: list[Any], retain: list[Any]) -> None:
        self._pairs = [{"forget": one, "retain": other} for one, other in zip(forget, retain, strict=False)]
        self._forget = forget

    @property
    def forget(self) -> list[Any]:
        return self._forget

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._pairs[index]


def logged(trainer: BalDROTrainer, name: str) -> list[float]:
    return [entry[name] for entry in trainer.state.log_history if name in entry]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"base": "SimNPO", "beta": 0.1, "dv_radius": 0.5},
        {"variant": "BalDRO_G", "top_fraction": 0.5, "scope": "dataset"},
        {"variant": "BalDRO_G", "base": "GradDiff", "hardness": "nll"},
    ],
    ids=["BalDRO_DV", "DV with radius", "G over the dataset", "G by likelihood"],
)
def test_what_the_trainer_is_told_to_forget_gets_less_likely(build: Any, settings: dict[str, Any]) -> None:
    trainer = build({"max_steps": 12}, alpha=0.0, **settings)
    samples = [trainer.train_dataset.forget[index] for index in range(8)]
    before = trainer.answers_of(trainer.model, samples)[0].sums.sum()
    trainer.train()
    assert trainer.answers_of(trainer.model, samples)[0].sums.sum() < before - 1
    assert len(logged(trainer, "forget_loss_robust")) == 12
    assert "forget_set_loss_worst_decile" in trainer.state.log_history[2]


def test_the_loss_is_the_weighted_sum_of_its_logged_parts(build: Any) -> None:
    trainer = build(gamma=0.5, alpha=2.0)
    trainer.train()
    for entry in trainer.state.log_history:
        if "retain_loss" in entry:
            # The Trainer rounds the loss that it logs.
            total = 0.5 * entry["forget_loss_robust"] + 2.0 * entry["retain_loss"]
            assert entry["loss"] == pytest.approx(total, abs=1e-3)


def test_operations_of_both_batches_are_counted(build: Any) -> None:
    trainer = build({"max_steps": 1})
    batch = next(iter(trainer.get_train_dataloader()))
    tokens = batch["forget"]["input_ids"].numel() + batch["retain"]["input_ids"].numel()
    parameters = trainer.model.num_parameters(exclude_embeddings=True)
    assert trainer.floating_point_ops(batch) == 6 * parameters * tokens
    trainer.train()
    assert trainer.state.total_flos > 0


def test_a_live_reference_trains_as_a_precomputed_one(build: Any) -> None:
    losses = []
    for reference in ("precomputed", "live"):
        trainer = build(reference=reference)
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0][0] != pytest.approx(losses[0][-1], abs=1e-2)


def test_kl_starts_at_nothing_and_grows_as_the_model_moves(build: Any) -> None:
    trainer = build(retain_loss_type="KL", gamma=3.0)
    trainer.train()
    divergence = logged(trainer, "retain_loss")
    assert divergence[0] == pytest.approx(0, abs=1e-6)
    assert divergence[-1] > 1e-5


@pytest.mark.parametrize("scope", ["batch", "dataset"])
def test_a_dataset_and_a_collator_of_ones_own_train_alike(
    build: Any, tokenizer: Any, rows: list[dict[str, str]], scope: str
) -> None:
    samples = encode_answers(tokenizer, rows[:16])
    pad = ForgetRetainCollator(tokenizer.pad_token_id)

    def collate(items: Any) -> dict[str, Any]:
        return {side: pad([item[side] for item in items]) for side in ("forget", "retain")}

    # One retain sample: nothing is left to chance.
    own = Stored(samples[:8], samples[8:9] * 8)
    one = build(train_dataset=own, data_collator=collate, scope=scope)
    other = build(train_dataset=ForgetRetainDataset(samples[:8], samples[8:9]), scope=scope)
    for trainer in (one, other):
        trainer.train()
    for ours, theirs in zip(one.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_evaluation_sets_report_their_mean_loss_per_answer_token(build: Any, tokenizer: Any, rows: Any) -> None:
    samples = encode_answers(tokenizer, rows[:4])
    trainer = build({"per_device_eval_batch_size": 4}, eval_dataset={"known": samples})
    reported = trainer.evaluate()["eval_known_loss"]
    expected = []
    for sample in samples:
        with torch.no_grad():
            logits = trainer.model(torch.tensor([sample["input_ids"]])).logits[0].double().log_softmax(-1)
        answer = [(place, token) for place, token in enumerate(sample["labels"]) if token != -100]
        expected += [-float(logits[place - 1, token]) for place, token in answer]
    assert reported == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_a_checkpoint_resumes_to_the_same_weights(build: Any, tmp_path: Path) -> None:
    whole = build({"save_steps": 3, "save_strategy": "steps"})
    whole.train()
    rest = build({"save_strategy": "no"})
    rest.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    for one, other in zip(whole.model.parameters(), rest.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_the_callers_arguments_stay_as_they_were(build: Any, tmp_path: Path) -> None:
    arguments = TrainingArguments(str(tmp_path / "out"), use_cpu=True, report_to=[])
    trainer = build()
    BalDROTrainer(trainer.model, arguments, train_dataset=ForgetRetainDataset([{}, {}]), alpha=0.0)
    assert arguments.remove_unused_columns


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "BalDRO-DV"}, r"variant='BalDRO-DV' is unknown: .*did you mean BalDRO_DV\?"),
        ({"dv_bata": 1.0}, r"dv_bata is not a setting of BalDRO_DV.*did you mean dv_beta\?"),
        ({"train_dataset": [1, 2]}, "train_dataset has no forget samples"),
        ({"train_dataset": Stored([{}, {}], [{}])}, "item i must hold forget sample i"),
        ({"eval_dataset": {"all": ForgetRetainDataset([{}, {}])}}, "eval_dataset holds forget-retain pairs"),
    ],
)
def test_what_cannot_work_is_refused_with_a_way_out(build: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_without_retain_data_training_says_what_to_set(build: Any, tokenizer: Any, rows: Any) -> None:
    alone = ForgetRetainDataset(encode_answers(tokenizer, rows[:4]))
    with pytest.raises(ValueError, match="set alpha=0"):
        build(train_dataset=alone).train()
    with pytest.raises(ValueError, match="set alpha=0 and retain_budget=null"):
        build(train_dataset=alone, retain_budget=0.1).train()
    build({"max_steps": 1}, train_dataset=alone, alpha=0.0).train()
    with pytest.raises(ValueError, match="the forget set is empty"):
        ForgetRetainDataset([])


def test_labels_are_the_answer_and_its_end(tokenizer: Any, rows: list[dict[str, str]]) -> None:
    (sample,) = encode_answers(tokenizer, rows[:1])
    answer = [token for token in sample["labels"] if token != -100]
    assert tokenizer.decode(answer) == rows[0]["answer"] + tokenizer.eos_token
    assert sample["input_ids"][-len(answer) :] == answer
    assert sample["labels"][: -len(answer)] == [-100] * (len(sample["labels"]) - len(answer))
    (short,) = encode_answers(tokenizer, rows[:1], max_length=5)
    assert len(short["input_ids"]) == len(short["labels"]) == 5


def test_the_chat_template_gets_what_the_model_was_trained_with(folder: Path, rows: list[dict[str, str]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{{ day }}{% for message in messages %}{{ message['content'] }}<s>{% endfor %}"
    (sample,) = encode_answers(tokenizer, rows[:1], system_prompt="Be kind.", template={"day": "Monday "})
    text = tokenizer.decode(sample["input_ids"])
    assert f"Monday Be kind.<s>{rows[0]['question']}<s>{rows[0]['answer']}" in text


def test_questions_need_a_chat_template(folder: Path, rows: list[dict[str, str]]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="the tokenizer has no chat template"):
        encode_answers(tokenizer, rows)
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ 'Q' }}"
    with pytest.raises(ValueError, match="does not continue its generation prompt"):
        encode_answers(tokenizer, rows)


def test_padding_is_hidden_from_model_and_loss() -> None:
    samples = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [5], "labels": [5]}]
    batch = ForgetRetainCollator(9)([{"forget": sample, "retain": sample} for sample in samples])
    for side in ("forget", "retain"):
        assert batch[side]["input_ids"].tolist() == [[5, 6, 7], [5, 9, 9]]
        assert batch[side]["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
        assert batch[side]["labels"].tolist() == [[-100, 6, 7], [5, -100, -100]]
