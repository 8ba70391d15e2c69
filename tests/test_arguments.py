"""The options of the Trainer: docs/training_arguments.md lists them all, and they do what it says."""

import dataclasses
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils.data import IterableDataset
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from baldro_ext import BalDROTrainer, ForgetRetainCollator, ForgetRetainDataset, compat
from baldro_ext.checkpoint import FILE_NAME
from baldro_ext.forward import AnswerForward

from .documents import ROOT
from .tiny import SIZE, arguments, columns, differing, llama, pairs, samples, unanswered

pytestmark = pytest.mark.transformers

DOCUMENT = (ROOT / "docs" / "training_arguments.md").read_text(encoding="utf-8")
FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}
BAD: dict[str, Any] = {
    "label_smoothing_factor": 0.1,
    "group_by_length": True,
    "train_sampling_strategy": "group_by_length",
    "dataloader_in_order": False,
    "past_index": 0,
    "include_num_input_tokens_seen": True,
    "include_tokens_per_second": True,
    "dispatch_batches": True,
    "parallelism_config": "any",
    "tp_size": 2,
    "enable_jit_checkpoint": True,
    "mp_parameters": "partitions=2",
}
"""Each option that is refused, and a value of it that is."""


def listed(table: str) -> list[str]:
    """The names in the first column of a table of the document, which is named by its head."""
    (rows,) = re.findall(rf"^\| {table} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    return [name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def build(folder: Path, given: dict[str, Any] | None = None, **settings: Any) -> BalDROTrainer:
    """A trainer on 8 forget samples by fours: an epoch has two micro-batches."""
    defaults: dict[str, Any] = {"per_device_train_batch_size": 4, "num_train_epochs": 2}
    if "model_init" not in settings:
        settings.setdefault("model", llama())
    return BalDROTrainer(
        args=arguments(folder, **{**defaults, **(given or {})}), **{"train_dataset": pairs(8), **settings}
    )


def trained(folder: Path, given: dict[str, Any] | None = None, **settings: Any) -> dict[str, torch.Tensor]:
    """Weights and state of the samples after training."""
    trainer = build(folder, given, **settings)
    trainer.train()
    return columns(trainer)


def weights(of: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: column for name, column in of.items() if name.endswith("weight")}


class AtEachStep(TrainerCallback):
    """Calls a function after each optimizer step, and keeps what it returns."""

    def __init__(self, look: Any) -> None:
        self._look = look
        self.seen: list[Any] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(self._look())


# What the document says of every option.


def test_the_document_lists_each_option_of_this_release_once() -> None:
    names = [name for table in ("Honoured", "Refused", "Without influence") for name in listed(table)]
    assert sorted(names) == sorted(set(names))
    assert set(names) >= FIELDS


def test_the_document_lists_each_argument_of_the_constructor_once() -> None:
    names = listed("Argument")
    assert sorted(names) == sorted(set(names))
    assert inspect.signature(Trainer.__init__).parameters.keys() - {"self"} <= set(names)


def test_each_option_that_the_document_says_is_refused_is_tried_here() -> None:
    assert listed("Refused") == list(BAD)


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    """A Trainer that is to save a checkpoint when it is terminated listens from its construction on."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("signals_as_they_were")
@pytest.mark.parametrize("name", [name for name in BAD if name in FIELDS])
def test_this_option_is_refused_by_its_name(name: str, tmp_path: Path) -> None:
    given = arguments(tmp_path)
    setattr(given, name, BAD[name])
    if name == "parallelism_config":
        from accelerate import ParallelismConfig

        given.parallelism_config = ParallelismConfig()
    # The Trainer itself refuses tensor parallelism with an old accelerate.
    with pytest.raises(ValueError, match=rf"(?s)^{name}=.* is not supported: .*\. Set |to use Tensor Parallelism"):
        BalDROTrainer(llama(), given, train_dataset=pairs(8))


@pytest.mark.skipif("train_sampling_strategy" not in FIELDS, reason="transformers 5 has it")
def test_samples_can_come_in_order_but_not_by_length(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"batch_rebalance is not supported.*Set train_sampling_strategy=random or seq"
    ):
        build(tmp_path, {"train_sampling_strategy": "batch_rebalance"})
    trainer = build(tmp_path, {"train_sampling_strategy": "sequential"})
    trainer.train()
    assert next(iter(trainer.get_train_dataloader()))["forget"]["samples"].index.tolist() == [0, 1, 2, 3]


def test_another_loss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compute_loss_func"):
        build(tmp_path, compute_loss_func=lambda outputs, labels: 0)


ON_TWO_PROCESSES = r"""
import os, sys
from tests.test_arguments import FIELDS, build

checkpointing = "activation_checkpointing" if "activation_checkpointing" in FIELDS else "gradient_checkpointing"
rmu = {"base": "RMU", "module_regex": r"model\.layers\.0", "retain_loss_type": "EMBED_DIFF"}
for given, settings in (
    ({"accelerator_config": {"even_batches": False}}, {}),
    ({checkpointing: True, f"{checkpointing}_kwargs": {"use_reentrant": True}}, {}),
    ({}, {**rmu, "trainable_params_regex": [".*"]}),
    ({}, {**rmu, "trainable_params_regex": [".*"], "hardness": "nll"}),
    ({}, {**rmu, "trainable_params_regex": [".*"], "module_regex": r"model\.layers\.0\.mlp\.act_fn"}),
    ({}, {**rmu, "trainable_params_regex": [r".*\.(input_layernorm|mlp)\..*"], "module_regex": r".*\.0\.mlp"}),
    ({}, {**rmu, "trainable_params_regex": [r"model\.layers\.0\..*"]}),
    ({}, {**rmu, "trainable_params_regex": [".*"], "retain_loss_type": "NLL"}),
):
    try:
        build(sys.argv[1], given, **settings).train()
    except ValueError as error:
        if os.environ["RANK"] == "0":
            print("refused:", error)
    else:
        if os.environ["RANK"] == "0":
            print("refused: nothing of", settings)
"""


def test_with_several_processes_what_would_make_them_wait_for_each_other_is_refused(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(ON_TWO_PROCESSES)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(tmp_path / "two.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    refused = re.findall(r"^refused: (\w+)", done.stdout, re.MULTILINE)
    rmu = ["RMU", "RMU", "RMU", "nothing", "nothing", "nothing"]
    assert refused == ["even_batches", "gradient_checkpointing", *rmu], done.stderr[-3000:]
    assert (
        "reads model\\.layers\\.0 and nothing behind it, where 2 parameters are trained, such as model.norm"
        in done.stdout
    )


# What is trained on.


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(samples(4, 1))


@pytest.mark.parametrize("stream", [Stream(), iter([1, 2])], ids=["IterableDataset", "iterator"])
def test_a_stream_is_refused_in_plain_words(stream: Any, tmp_path: Path) -> None:
    for make in (lambda: build(tmp_path, train_dataset=stream), lambda: ForgetRetainDataset(stream)):
        with pytest.raises(ValueError, match=r"is a stream \(.*pass a list or a dataset with a length"):
            make()
    with pytest.raises(ValueError, match=r"retain is a stream"):
        ForgetRetainDataset(samples(4, 1), stream)


def test_without_training_data_train_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train_dataset is missing, so there is nothing to unlearn"):
        build(tmp_path, train_dataset=None).train()


# The forward pass.


@pytest.mark.parametrize(
    "settings", [{}, {"reference": "live", "retain_loss_type": "KL"}], ids=["precomputed", "copy of the model"]
)
def test_noise_is_added_to_the_passes_of_a_step_and_not_to_the_reference(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    noisy = build(tmp_path, {"neftune_noise_alpha": 5.0}, **settings)
    items = [noisy.train_dataset[place] for place in range(4)]
    batch = noisy.data_collator(items)["forget"]
    with torch.no_grad():
        before = AnswerForward.of(noisy.model)(llama().eval(), batch)[0].sums
    if settings:
        noisy.add_callback(AtEachStep(lambda: assert_same(noisy._reference(batch), before)))
    noisy.train()
    if not settings:
        assert_same(noisy.adversary.state.reference[:4], before)
    plain = trained(tmp_path, **settings)
    assert set(weights(plain)) <= set(differing(columns(noisy), plain))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, check_dtype=False, rtol=1e-5, atol=1e-5)


def test_noise_reaches_a_model_of_model_init_or_is_refused(tmp_path: Path) -> None:
    given = {"neftune_noise_alpha": 5.0}
    if not compat.NOISE_REACHES_A_NEW_MODEL:
        with pytest.raises(ValueError, match=r"neftune_noise_alpha=5.0 is not supported: .* or use transformers 5"):
            build(tmp_path, given, model_init=lambda: llama())
        return
    plain, noisy = trained(tmp_path, model_init=lambda: llama()), trained(tmp_path, given, model_init=lambda: llama())
    assert set(weights(plain)) <= set(differing(noisy, plain))


# The module's output has a gradient only because of a parameter that is trained before it.
RMU = {
    "base": "RMU",
    "module_regex": r"model\.layers\.0",
    "trainable_params_regex": [r"model\.layers\.0\.mlp\.down_proj\.weight"],
}


@pytest.mark.parametrize(
    "settings", [{}, {"variant": "BalDRO_G"}, RMU], ids=["all samples", "the chosen samples", "some parameters"]
)
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "name", [name for name in ("gradient_checkpointing", "activation_checkpointing") if name in FIELDS]
)
def test_weights_are_the_same_with_activations_that_are_recomputed(
    name: str, reentrant: bool, settings: dict[str, Any], tmp_path: Path
) -> None:
    plain = trained(tmp_path, **settings)
    trainer = build(tmp_path, {name: True, f"{name}_kwargs": {"use_reentrant": reentrant}}, **settings)
    trainer.train()
    assert trainer.model.is_gradient_checkpointing
    recomputed = columns(trainer)
    for weight, theirs in weights(plain).items():
        torch.testing.assert_close(recomputed[weight], theirs, rtol=0, atol=1e-6)


def test_under_autocast_log_probabilities_are_float32(tmp_path: Path) -> None:
    runs = []
    for given in ({"bf16": True}, {}):
        trainer = build(tmp_path, given)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        answers, _ = trainer.answers_of(trainer.model, samples(2, 1))
        assert answers.tokens.dtype == torch.float32
        runs.append(losses)
    assert runs[0] == pytest.approx(runs[1], rel=0.05)
    assert runs[0] != runs[1]


def test_a_compiled_model_is_not_compiled_again_for_each_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where accelerate is old, TrainingArguments puts its options of compiling into the environment.
    for option in ("BACKEND", "MODE"):
        monkeypatch.setenv(f"ACCELERATE_DYNAMO_{option}", "no" if option == "BACKEND" else "default")
    torch._dynamo.reset()
    counters.clear()
    graphs = AtEachStep(lambda: counters["stats"]["unique_graphs"])
    # The attention of transformers 4.45 branches on what is in the mask, unless it is this one.
    model = llama(model=lambda config: LlamaForCausalLM._from_config(config, attn_implementation="eager"))
    given = {"torch_compile": True, "torch_compile_backend": "eager", "num_train_epochs": 4}
    trainer = build(tmp_path, given, model=model, train_dataset=pairs(12), callbacks=[graphs])
    trainer.train()
    assert len(graphs.seen) == 12
    assert 0 < graphs.seen[2] == graphs.seen[-1]
    torch._dynamo.reset()


def test_the_retain_loss_of_a_mixture_of_experts_has_its_load_balancing_loss(tmp_path: Path) -> None:
    config = MixtralConfig(
        **SIZE, num_key_value_heads=2, num_local_experts=4, output_router_logits=True, router_aux_loss_coef=0.5
    )
    torch.manual_seed(0)
    trainer = build(tmp_path, model=MixtralForCausalLM(config), base="GradDiff", gamma=0.0)
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(4)])
    # The last token is only predicted, and never read: the mask hides it from the balance of the model's own loss.
    batch["retain"]["attention_mask"][:, -1] = 0
    trainer.model.eval()
    with torch.no_grad():
        ours = trainer.compute_loss(trainer.model, batch)
        whole = trainer.model(**{name: batch["retain"][name] for name in ("input_ids", "attention_mask", "labels")})
    assert whole.aux_loss > 0
    assert ours.item() == pytest.approx(whole.loss.item(), rel=1e-6)


# From the first step to the last.


@pytest.mark.parametrize("settings", [{}, {"model_init": lambda: llama()}], ids=["model", "model_init"])
def test_a_second_training_is_that_of_a_fresh_trainer(settings: dict[str, Any], tmp_path: Path) -> None:
    # A Trainer keeps its optimizer, unless it makes a new model: this one has nothing to keep.
    given = {"optim": "adamw_torch" if settings else "sgd", "learning_rate": 0.1}
    twice = build(tmp_path, given, **settings)
    twice.train()
    start = llama()
    if not settings:
        start.load_state_dict(twice.model.state_dict())
    twice.train()
    fresh = trained(tmp_path, given, **(settings or {"model": start}))
    assert differing(columns(twice), fresh) == []


def test_evaluation_before_training_changes_nothing(tmp_path: Path) -> None:
    evaluated = build(tmp_path, eval_dataset={"known": samples(6, 3)})
    assert evaluated.evaluate()["eval_known_loss"] > 0
    evaluated.train()
    assert differing(columns(evaluated), trained(tmp_path)) == []


class OutOfMemory(LlamaForCausalLM):
    """A model on a device that has no room for more than a few samples."""

    room = 1

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > self.room:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(*args, **kwargs)


def with_room_for(number: int) -> OutOfMemory:
    model = llama(model=OutOfMemory)
    model.room = number
    return model


@pytest.mark.parametrize("base", ["NPO", "GradDiff"], ids=["in the scoring pass", "in a step"])
def test_a_batch_size_that_is_found_to_fit_trains_as_if_it_had_been_given(base: str, tmp_path: Path) -> None:
    found = trained(tmp_path, {"auto_find_batch_size": True}, base=base, model=with_room_for(2))
    given = trained(tmp_path, {"per_device_train_batch_size": 2}, base=base, model=with_room_for(2))
    assert differing(found, given) == []


class LaterOutOfMemory(LlamaForCausalLM):
    """A model on a device whose room ends after a few training steps."""

    passes = 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.passes += torch.is_grad_enabled()
        if self.passes == 6:
            raise RuntimeError("CUDA out of memory.")
        return super().forward(*args, **kwargs)


def test_the_retain_loss_before_unlearning_is_known_when_a_smaller_batch_begins_again(tmp_path: Path) -> None:
    budget = {"retain_budget": 0.1, "base": "GradDiff", "train_dataset": pairs(16)}
    whole = build(tmp_path, **budget)
    whole.train()
    found = build(tmp_path, {"auto_find_batch_size": True}, **budget, model=llama(model=LaterOutOfMemory))
    found.train()
    assert found.budget.before == pytest.approx(whole.budget.before, rel=1e-6)


def test_a_batch_size_that_comes_down_to_one_is_refused_where_the_worst_of_a_batch_is_sought(tmp_path: Path) -> None:
    given = {"auto_find_batch_size": True}
    with pytest.raises(ValueError, match=r"with scope=batch leaves BalDRO_DV one sample.*set scope=dataset"):
        build(tmp_path, given, model=with_room_for(1)).train()
    build(tmp_path, given, model=with_room_for(1), scope="dataset").train()


def test_the_best_model_is_loaded_at_the_end_and_saved_alone(tmp_path: Path) -> None:
    each = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 3}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_known_loss", "greater_is_better": False}
    forgotten = pairs(8)
    trainer = build(
        tmp_path, {**each, **best}, train_dataset=forgotten, eval_dataset={"known": forgotten.forget}, alpha=0.0
    )
    trainer.train()
    losses = [entry["eval_known_loss"] for entry in trainer.state.log_history if "eval_known_loss" in entry]
    assert min(losses) != losses[-1]
    assert trainer.evaluate()["eval_known_loss"] == pytest.approx(min(losses), rel=1e-6)
    with np.load(Path(trainer.state.best_model_checkpoint) / FILE_NAME) as state:
        np.testing.assert_array_equal(trainer.adversary.state.losses, state["losses"])
    trainer.save_model()
    assert (tmp_path / "checkpoint-2" / FILE_NAME).exists()
    assert not (tmp_path / FILE_NAME).exists()
    saved = LlamaForCausalLM.from_pretrained(tmp_path)
    assert all(map(torch.equal, saved.parameters(), trainer.model.parameters()))


@pytest.mark.parametrize(
    ("skips", "seen_before_each_step"),
    [(True, [6, 9, 0, 3]), (False, [0, 3, 6, 9])],
    ids=["goes on in it", "starts it again"],
)
def test_a_resumed_epoch(skips: bool, seen_before_each_step: list[int], tmp_path: Path) -> None:
    given = {"per_device_train_batch_size": 3, "max_steps": 6}
    build(tmp_path, {**given, "save_strategy": "steps", "save_steps": 2}, train_dataset=pairs(12)).train()
    rest = build(tmp_path, {**given, "ignore_data_skip": not skips}, train_dataset=pairs(12))
    after = AtEachStep(lambda: int(rest.adversary.state.seen.sum()) - 3)
    rest.add_callback(after)
    rest.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert after.seen == seen_before_each_step


def test_a_checkpoint_of_the_model_alone_is_not_resumed(tmp_path: Path) -> None:
    build(tmp_path, {"save_strategy": "steps", "save_steps": 1, "save_only_model": True}).train()
    with pytest.raises(ValueError, match=r"checkpoint-1 was saved with save_only_model=true.* or start a new run"):
        build(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_what_would_resume_at_other_samples_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"per_device_train_batch_size": 4, "num_train_epochs": 2}
    build(tmp_path, {**given, "save_strategy": "steps", "save_steps": 1}, train_dataset=pairs(8)).train()
    monkeypatch.setattr(compat, "RESUMES_WITHIN_LATER_EPOCHS", False)  # as with accelerate 1.7 and transformers 4
    for step, skips, refused in ((1, True, False), (2, True, False), (3, True, True), (3, False, False)):
        rest = build(tmp_path, {**given, "ignore_data_skip": not skips}, train_dataset=pairs(8))
        with pytest.raises(ValueError, match="resume from the end of an epoch") if refused else nullcontext():
            rest.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))


class Causal(PreTrainedModel):
    """A model with code of its own, which does without transformers' generation."""

    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.inner = LlamaForCausalLM(config)

    def can_generate(self) -> bool:  # type: ignore[override]
        return False

    def get_output_embeddings(self) -> torch.nn.Module:
        head: torch.nn.Module = self.inner.lm_head
        return head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> Any:
        return self.inner(input_ids=input_ids, attention_mask=attention_mask)


def test_a_causal_model_needs_no_generation(tmp_path: Path) -> None:
    BalDROTrainer(Causal(LlamaConfig(**SIZE)), arguments(tmp_path, save_strategy="no"), train_dataset=pairs(4)).train()


BERT = BertConfig(**SIZE)
T5 = T5Config(vocab_size=64, d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=32)


@pytest.mark.parametrize(
    "model",
    [BertModel(BERT), BertForMaskedLM(BERT), BertForPreTraining(BERT), T5ForConditionalGeneration(T5), llama().model],
    ids=lambda m: type(m).__name__,
)
def test_a_model_that_is_no_causal_language_model_is_refused(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{type(model).__name__}.*AutoModelForCausalLM"):
        BalDROTrainer(model, arguments(tmp_path), train_dataset=pairs(4))


@pytest.mark.parametrize("name", ["per_device_train_batch_size", "gradient_accumulation_steps"])
def test_a_step_without_samples_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name}=0.*{name}=1 or more"):
        BalDROTrainer(llama(), arguments(tmp_path, **{name: 0}), train_dataset=pairs(4))


@pytest.mark.parametrize("settings", [{}, {"reference": "live"}, {"base": "SimNPO"}], ids=str)
def test_samples_that_are_no_mappings_are_refused(settings: dict[str, str], tmp_path: Path) -> None:
    dataset = ForgetRetainDataset([[1, 2], [3, 4]], samples(4, seed=2))
    with pytest.raises(ValueError, match=r"forget sample is a list, not a mapping: pass samples such as"):
        BalDROTrainer(llama(), arguments(tmp_path), train_dataset=dataset, **settings).train()


def test_a_retain_set_without_labels_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dataset = ForgetRetainDataset(samples(4, seed=1), [unanswered(sample) for sample in samples(4, seed=2)])
    BalDROTrainer(llama(), arguments(tmp_path, num_train_epochs=2), train_dataset=dataset).train()
    assert [record.message for record in caplog.records if "retains nothing" in record.message] == [
        "A retain batch has no answer token, so it retains nothing: labels are the tokens to keep, and -100 elsewhere."
    ]


def test_samples_without_tokens_are_refused_with_what_makes_them(tmp_path: Path) -> None:
    noted = [{**sample, "meta": {"author": "A"}} for sample in samples(4, seed=1)]
    BalDROTrainer(llama(), arguments(tmp_path), train_dataset=ForgetRetainDataset(noted, noted)).train()
    texts = [{"question": "Who?", "answer": "I"}] * 4
    for forget, lacks in ((texts, "input_ids and labels"), ([{"input_ids": [1, 2]}] * 4, "labels")):
        dataset = ForgetRetainDataset(forget, samples(4, seed=2))
        with pytest.raises(ValueError, match=rf"but no {lacks}: make them with baldro_ext.encode_answers"):
            BalDROTrainer(llama(), arguments(tmp_path), train_dataset=dataset).train()


def test_a_batch_may_hold_more_than_its_two_sides(tmp_path: Path) -> None:
    def collate(items: Any) -> dict[str, Any]:
        return {**ForgetRetainCollator(0)(items), "weight": torch.ones(len(items))}

    plain = trained(tmp_path)
    assert differing(trained(tmp_path, data_collator=collate), plain) == []


def test_pairs_are_no_samples_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="eval_dataset holds forget-retain pairs"):
        build(tmp_path).evaluate(pairs(4))


def test_the_tokenizer_may_have_either_name(tmp_path: Path) -> None:
    class Tokenizer(PreTrainedTokenizerBase):
        pad_token_id = 7

    for name in ("processing_class", "tokenizer"):
        trainer = BalDROTrainer(llama(), arguments(tmp_path), train_dataset=pairs(4), **{name: Tokenizer()})
        assert trainer.data_collator.collator.pad_token_id == 7


def test_draws_have_the_seed_that_training_has(tmp_path: Path) -> None:
    class Searched(BalDROTrainer):
        def _hp_search_setup(self, trial: Any) -> None:
            self.args.seed = 5

    trainer = Searched(llama(), arguments(tmp_path), train_dataset=pairs(8))
    trainer.train()
    assert trainer.train_dataset.seed == 5
