"""A resumed run is the uninterrupted one, bit by bit, or says why it cannot be."""

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from baldro_ext import BalDROTrainer, ForgetRetainDataset, compat
from baldro_ext.checkpoint import FILE_NAME, StateError

from .tiny import arguments, columns, differing, llama, lora, pairs, samples

pytestmark = pytest.mark.transformers

# 12 forget samples by threes: an epoch has 4 micro-batches.
FORGET, BATCH = 12, 3
G = {"variant": "BalDRO_G"}
TWO_ANSWERS = [
    {"original": one, "alternate": other} for one, other in zip(samples(FORGET, 1), samples(FORGET, 3), strict=True)
]
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "batch": ({}, {}),
    "batch, 2 workers": ({"dataloader_num_workers": 2}, {}),
    "dataset": ({"gradient_accumulation_steps": 2, "num_train_epochs": 3}, {"scope": "dataset"}),
    "dataset, 2 workers": ({"dataloader_num_workers": 2}, {"scope": "dataset", "base": "SimNPO", "beta": 0.1}),
    "2 workers that live on": (
        {"dataloader_num_workers": 2, "dataloader_persistent_workers": True, "save_steps": 3},
        G | {"scope": "dataset"},
    ),
    "an epoch per step": ({"gradient_accumulation_steps": 4, "num_train_epochs": 4}, G),
    "matched": ({}, G | {"retain_batch": "matched"}),
    "matched, 2 workers": (
        {"gradient_accumulation_steps": 2, "dataloader_num_workers": 2},
        G | {"retain_batch": "matched", "base": "SimNPO"},
    ),
    "KL": ({"gradient_accumulation_steps": 2}, {"retain_loss_type": "KL", "scope": "dataset"}),
    "live reference": ({}, {"reference": "live"}),
    "a budget": ({"gradient_accumulation_steps": 2, "num_train_epochs": 3}, {"retain_budget": 0.05}),
    "second answers": ({}, {"base": "DPO", "train_dataset": ForgetRetainDataset(TWO_ANSWERS, samples(40, 2))}),
    "by steps": ({"max_steps": 8}, {"base": "SimNPO", "dv_radius": 0.5}),
    "by epochs": ({"save_strategy": "epoch", "num_train_epochs": 3}, {"scope": "dataset"}),
    "LoRA": ({}, {"scope": "dataset"}),
    "LoRA, 2 workers": ({"gradient_accumulation_steps": 2, "dataloader_num_workers": 2}, G),
    "LoRA, KL": ({"gradient_accumulation_steps": 2}, {"retain_loss_type": "KL", "reference": "live"}),
}


def build(
    folder: Path, given: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, *, model: Any = None
) -> BalDROTrainer:
    """A trainer of a model with dropout, so that the random numbers of a run matter."""
    defaults: dict[str, Any] = {"per_device_train_batch_size": BATCH, "num_train_epochs": 2}
    return BalDROTrainer(
        llama(dropout=0.2) if model is None else model,
        arguments(folder, **{**defaults, **(given or {})}),
        **{"train_dataset": pairs(FORGET), **(settings or {})},
    )


def saving(given: dict[str, Any]) -> dict[str, Any]:
    return {"save_strategy": "steps", "save_steps": 1, **given}


def checkpoints(folder: Path) -> list[Path]:
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert found
    return found


def losses(trainer: BalDROTrainer) -> list[tuple[Any, ...]]:
    """What was logged at each step."""
    names = ("step", "loss", "forget_loss_robust", "retain_loss", "learning_rate")
    return [tuple(entry[name] for name in names) for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run of two epochs, to be read only."""
    folder = tmp_path_factory.mktemp("stopped")
    build(folder, saving({}), {"scope": "dataset"}).train()
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_resumes_bit_by_bit_from_every_checkpoint(name: str, tmp_path: Path) -> None:
    given, settings = SETTINGS[name]

    def trainer(folder: str, given: dict[str, Any]) -> BalDROTrainer:
        model = llama(dropout=0.2)
        return build(tmp_path / folder, given, settings, model=lora(model) if "LoRA" in name else model)

    whole = trainer("whole", saving(given))
    whole.train()
    for path in checkpoints(tmp_path / "whole"):
        rest = trainer("rest", {**given, "save_strategy": "no"})
        rest.train(resume_from_checkpoint=str(path))
        assert differing(columns(rest), columns(whole)) == [], path.name
        assert losses(rest) == losses(whole), path.name


def test_the_random_numbers_of_a_run_matter_here(tmp_path: Path) -> None:
    """So that the tests of this file can fail: dropout makes runs of two random states differ."""
    runs = []
    for seed in (0, 1):
        trainer = build(
            tmp_path, {"max_steps": 2}, {"train_dataset": ForgetRetainDataset(samples(3, 1), samples(1, 2))}
        )
        torch.manual_seed(seed)
        trainer.train()
        runs.append(columns(trainer))
    assert differing(*runs)


@pytest.mark.parametrize("accumulation", [3, 8])
def test_where_an_epoch_has_a_shorter_step_a_run_resumes_or_says_that_it_cannot(
    accumulation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 3}
    message = (
        rf"gradient_accumulation_steps \({accumulation}\) does not divide the 4 micro-batches of an epoch. .* 1, 2, 4 "
    )
    whole = build(tmp_path / "whole", saving(given), {"scope": "dataset"})
    with caplog.at_level(logging.WARNING, logger="baldro_ext"):
        whole.train()
    assert bool(re.search(message, caplog.text)) != compat.RESUMES_ANYWHERE
    for path in checkpoints(tmp_path / "whole"):
        rest = build(tmp_path / "rest", given, {"scope": "dataset"})
        if not compat.RESUMES_ANYWHERE:
            with pytest.raises(ValueError, match=f"{message}.*or use transformers 4.57 or later"):
                rest.train(resume_from_checkpoint=str(path))
            continue
        rest.train(resume_from_checkpoint=str(path))
        assert differing(columns(rest), columns(whole)) == [], path.name


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_fetched_before_training_changes_nothing(workers: int, tmp_path: Path) -> None:
    runs = []
    for fetches in (False, True):
        trainer = build(tmp_path, {"dataloader_num_workers": workers}, {"scope": "dataset"})
        if fetches:
            next(iter(trainer.get_train_dataloader()))
        trainer.train()
        runs.append(columns(trainer))
    assert differing(*runs) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_fetched_before_a_run_goes_on_changes_nothing(workers: int, stopped: Path, tmp_path: Path) -> None:
    whole = build(tmp_path / "whole", {}, {"scope": "dataset"})
    whole.train()
    for step in (1, 4, 6):
        rest = build(tmp_path / "rest", {"dataloader_num_workers": workers}, {"scope": "dataset"})
        next(iter(rest.get_train_dataloader()))
        rest.train(resume_from_checkpoint=str(stopped / f"checkpoint-{step}"))
        assert differing(columns(rest), columns(whole)) == [], step


def test_a_run_that_came_to_its_end_is_not_trained_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The Trainer of transformers takes a step more where the last one is not the last of an epoch."""
    within, at_the_end = build(tmp_path / "6", saving({"max_steps": 6})), build(tmp_path / "8", saving({}))
    within.train()
    rest = build(tmp_path / "rest", {"max_steps": 6})
    with pytest.raises(ValueError, match=r"checkpoint-6 was saved after the last step \(6 of 6\)"):
        rest.train(resume_from_checkpoint=str(tmp_path / "6" / "checkpoint-6"))
    at_the_end.train()
    rest = build(tmp_path / "rest")
    rest.train(resume_from_checkpoint=str(tmp_path / "8" / "checkpoint-8"))
    assert "checkpoint-8 was saved after the last step (8 of 8), so nothing is left to train" in caplog.text
    assert differing(columns(rest), columns(at_the_end)) == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"base": "SimNPO"}, "base: NPO there, SimNPO here"),
        ({"beta": 0.2}, "beta: 0.1 there, 0.2 here"),
        ({"dv_beta": 1.0}, "dv_beta: 2.0 there, 1.0 here"),
        ({"dv_radius": 0.5}, "dv_radius: None there, 0.5 here"),
        ({"hardness": "nll"}, "hardness: loss there, nll here"),
        ({"scope": "batch"}, "scope: dataset there, batch here"),
        ({"retain_budget": 0.1}, "retain_budget: None there, 0.1 here"),
        ({"variant": "BalDRO_G"}, "variant: BalDRO_DV there, BalDRO_G here"),
        ({"train_dataset": pairs(FORGET, 41)}, "retain_set: 40 samples .* there, 41 samples .* here"),
        (
            {"train_dataset": ForgetRetainDataset(samples(FORGET, 1), samples(40, 3))},
            "retain_set: 40 samples .* there, 40 samples .* here",
        ),
        (
            {"train_dataset": ForgetRetainDataset(samples(FORGET, 3), samples(40, 2))},
            "(fingerprint|forget_set): .* there, .* here",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_run_of_other_settings_is_not_resumed(
    changed: dict[str, Any], named: str, stopped: Path, tmp_path: Path
) -> None:
    trainer = build(tmp_path, {}, {"scope": "dataset"} | changed)
    before = columns(trainer)
    with pytest.raises(StateError, match=rf"belongs to another run \(.*{named}.*resume with the settings of that run"):
        trainer.train(resume_from_checkpoint=str(stopped / "checkpoint-3"))
    assert differing(columns(trainer), before) == []


def test_a_run_of_another_seed_is_not_resumed(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="seed: 42 there, 7 here"):
        build(tmp_path, {"seed": 7}, {"scope": "dataset"}).train(resume_from_checkpoint=str(stopped / "checkpoint-3"))


def test_the_state_of_another_step_is_not_resumed(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-3"
    shutil.copytree(stopped / "checkpoint-3", folder)
    shutil.copy(stopped / "checkpoint-2" / FILE_NAME, folder)
    with pytest.raises(StateError, match="step: 2 there, 3 here"):
        build(tmp_path, {}, {"scope": "dataset"}).train(resume_from_checkpoint=str(folder))


def test_the_newest_complete_checkpoint_is_taken(
    stopped: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build(tmp_path / "whole", {}, {"scope": "dataset"})
    whole.train()
    folder = tmp_path / "killed"
    shutil.copytree(stopped, folder)
    for number in (7, 8):
        shutil.rmtree(folder / f"checkpoint-{number}")
    # As a killed run leaves them: the state of the Trainer is written last, and the state of the samples before it.
    state = folder / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    (folder / "checkpoint-5" / "trainer_state.json").unlink()
    (folder / "checkpoint-5" / FILE_NAME).unlink()
    (folder / "checkpoint-4" / FILE_NAME).unlink()
    rest = build(folder, {}, {"scope": "dataset"})
    with caplog.at_level(logging.WARNING, logger="baldro_ext"):
        rest.train(resume_from_checkpoint=True)
    skipped = re.findall(r"checkpoint-(\d+) is incomplete", caplog.text)
    assert skipped == ["6", "5", "4"]
    assert losses(rest) == losses(whole)
    assert differing(columns(rest), columns(whole)) == []


def test_a_checkpoint_that_is_written_over_is_incomplete_until_its_end(stopped: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(stopped, folder)
    trainer = build(folder, saving({}), {"scope": "dataset"})

    def fail(model: Any, state: Any, prefix: Any, metadata: Any) -> None:
        raise OSError("the disk is full")

    trainer.model._register_state_dict_hook(fail)
    with pytest.raises(OSError, match="the disk is full"):
        trainer.train(resume_from_checkpoint=str(folder / "checkpoint-5"))
    assert not (folder / "checkpoint-6" / "trainer_state.json").exists()


class Fails:
    """A hook that raises once, before a model's second pass over samples."""

    def __init__(self, model: torch.nn.Module, error: BaseException) -> None:
        self._passes, self._error = 0, error
        model.register_forward_pre_hook(self)

    def __call__(self, module: torch.nn.Module, inputs: Any) -> None:
        self._passes += 1
        if self._passes == 2:
            raise self._error


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("settings", [{}, G | {"scope": "dataset"}], ids=["NPO", "G over the dataset"])
def test_after_a_scoring_pass_that_failed_training_is_as_if_it_were_the_first(
    error: BaseException, settings: dict[str, Any], tmp_path: Path
) -> None:
    fresh = build(tmp_path / "fresh", {}, settings)
    fresh.train()
    model = llama(dropout=0.2)
    trainer = build(tmp_path / "failed", {}, settings, model=model)
    Fails(model, error)
    with pytest.raises(type(error)):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not trainer.adversary.state.has_loss.any()
    trainer.train()
    assert losses(trainer) == losses(fresh)
    assert differing(columns(trainer), columns(fresh)) == []


@pytest.mark.parametrize("settings", [{}, {"base": "SimNPO"}], ids=["scored before the first step", "in a step"])
def test_samples_whose_loss_is_not_finite_are_named(settings: dict[str, Any], tmp_path: Path) -> None:
    forget, poison = samples(FORGET, 1), 1
    for place in (4, 5):
        forget[place] = {**forget[place], "input_ids": [poison, *forget[place]["input_ids"][1:]]}
    settings = {**settings, "train_dataset": ForgetRetainDataset(forget, samples(40, 2))}
    model = llama()
    poisoned = model.get_input_embeddings().weight[poison]
    whole = poisoned.detach().clone()
    with torch.no_grad():
        poisoned.fill_(torch.nan)
    trainer = build(tmp_path, {}, settings, model=model)
    # The pass goes from sample to sample; a step may meet one of them before the other.
    named = r"\[4, 5\]" if trainer.settings.needs_scores else r"\[(4|5|4, 5)\]"
    with pytest.raises(ValueError, match=rf"the forget losses of samples {named} of the forget set are not finite"):
        trainer.train()
    if not trainer.settings.needs_scores:
        return
    with torch.no_grad():
        poisoned.copy_(whole)
    trainer.train()
    fresh = build(tmp_path, {}, settings, model=llama())
    fresh.train()
    assert differing(columns(trainer), columns(fresh)) == []


def test_runs_killed_at_any_moment_resume_bit_by_bit_or_say_that_they_cannot(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.kill_points", str(tmp_path), "--points", "10"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert re.search(r"10 kill points: \d+ bit-identical, \d+ refused in words, 0 lost", done.stdout), (
        done.stdout[-3000:] + done.stderr[-3000:]
    )
