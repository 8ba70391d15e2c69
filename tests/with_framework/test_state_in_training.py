"""What is known of the samples in the framework's own training: the reference, the ranks, an interruption."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from baldro_ext.checkpoint import FILE_NAME

from .conftest import TRAIN, Framework
from .test_equality import weights

pytestmark = pytest.mark.framework

# Plain SGD without clipping, where a gradient that is k times too large moves k times too far.
SGD = (
    "trainer.args.optim=sgd",
    "+trainer.args.max_grad_norm=0",
    "trainer.args.weight_decay=0",
    "trainer.args.learning_rate=1e-2",
    "+trainer.args.lr_scheduler_type=constant",
    "trainer.args.gradient_accumulation_steps=1",
    "trainer.args.num_train_epochs=2",
    "~eval.tofu",
)


# Runs that must not differ whatever their number of processes. Samples that fill up the last step of an epoch count
# nothing as forget samples, but they bring retain samples with them.
ALIKE = (
    "experiment=unlearn/tofu",
    "trainer.method_args.alpha=0",
    "trainer.args.ddp_find_unused_parameters=false",  # the framework's YAML passes the text None
    "trainer.args.save_strategy=epoch",
    "+trainer.args.save_total_limit=1",
    *SGD,
)
# Short chunks, so that a little text makes several samples.
INDEXED = {
    "tofu": (),
    "muse": ("data.forget.MUSE_forget.args.max_length=32", "data.retain.MUSE_retain.args.max_length=32"),
    "wmdp": ("data.forget.WMDP_forget.args.max_length=32", "data.retain.WMDP_retain.args.max_length=32"),
}


@pytest.mark.generations("G2")
def test_a_precomputed_reference_trains_as_a_live_one(framework: Framework) -> None:
    framework.train(
        "-m",
        "trainer=BalDRO_DV",
        "experiment=unlearn/tofu",
        "trainer.method_args.reference=precomputed,live",
        "task_name=reference_${trainer.method_args.reference}",
        "trainer.args.per_device_train_batch_size=4",
        *SGD,
    )
    precomputed, live = (framework.steps(f"reference_{kind}") for kind in ("precomputed", "live"))
    for ours, theirs in zip(precomputed, live, strict=True):
        assert ours["forget_loss_mean"] == pytest.approx(theirs["forget_loss_mean"], rel=1e-6)
    torch.testing.assert_close(
        weights(framework, "reference_precomputed"), weights(framework, "reference_live"), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize(
    ("scope", "processes", "each"), [("batch", 2, 2), ("dataset", 2, 2), ("batch", 3, 1), ("dataset", 3, 1)]
)
def test_several_processes_train_as_one(framework: Framework, scope: str, processes: int, each: int) -> None:
    """The last step of 10 samples holds 2 of 4, or 1 of 3: some process has only padding then."""
    common = ("trainer=BalDRO_DV", f"trainer.method_args.scope={scope}", *ALIKE)
    one, several = f"{scope}_{processes * each}", f"{scope}_{processes}x{each}"
    framework.train(*common, f"task_name={one}", f"trainer.args.per_device_train_batch_size={processes * each}")
    framework.train_on(processes, *common, f"task_name={several}", f"trainer.args.per_device_train_batch_size={each}")
    assert_alike(framework, several, one)


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param("fsdp2", marks=pytest.mark.generations("G3")),  # accelerate 0.34 has FSDP1 only
        "zero2",
        pytest.param("zero3", marks=pytest.mark.generations("G3")),  # DeepSpeed 0.15.4 asks for numactl
    ],
)
def test_sharded_models_train_as_whole_ones(framework: Framework, engine: str) -> None:
    accumulating = ("trainer.method_args.scope=dataset", *ALIKE, "trainer.args.gradient_accumulation_steps=5")
    framework.train(
        "trainer=BalDRO_DV", *accumulating, f"task_name=not_{engine}", "trainer.args.per_device_train_batch_size=2"
    )
    output = framework.script(
        "sharded.py",
        engine,
        *(str(framework.saved(engine)), *accumulating, "trainer.args.per_device_train_batch_size=1"),
        processes=2,
    )
    assert re.search(r"trained by (FSDP\w+|DeepSpeedEngine) on 2 processes", output)
    assert_alike(framework, engine, f"not_{engine}")


def assert_alike(framework: Framework, run: str, other: str) -> None:
    """Weights and states of two runs are the same, as far as sums in another order can be."""
    ours, theirs = (load_file(framework.saved(task) / "model.safetensors") for task in (run, other))
    for name in theirs:  # engines that shard save the output layer too where it is tied to the embeddings
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-6)
    ours, theirs = (state(framework.saved(task)) for task in (run, other))
    for column in ("losses", "reference"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-5, atol=1e-5)


def state(folder: Path) -> dict[str, Any]:
    """What was known of the samples at the end: beside the model, or in its last checkpoint."""
    (path,) = [*folder.glob(FILE_NAME), *folder.glob(f"checkpoint-*/{FILE_NAME}")]
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.generations("G2")
@pytest.mark.parametrize(("benchmark", "short"), INDEXED.items())
def test_indices_name_the_samples_of(framework: Framework, benchmark: str, short: tuple[str, ...]) -> None:
    output = framework.script("indices.py", f"experiment=unlearn/{benchmark}", *short)
    assert re.findall(r"anchor=(\w+): \d+ indices name their samples", output) == ["forget", "retain"]


@pytest.mark.generations("G2")
def test_runs_killed_between_two_steps_resume_to_the_same_weights(framework: Framework, tmp_path: Path) -> None:
    output = framework.script("interrupted.py", str(tmp_path))
    assert output.count("resumed to the same weights and state") == 10


def test_the_documented_command_resumes_the_run_of_its_name(framework: Framework) -> None:
    """docs/method.md: the same command once more, with one override that is no part of the run's name."""
    command = (
        "trainer=BalDRO_G",
        "experiment=unlearn/tofu",
        "trainer.args.num_train_epochs=2",
        "trainer.args.per_device_train_batch_size=5",
        "trainer.args.gradient_accumulation_steps=1",
        "trainer.args.save_strategy=steps",
        "+trainer.args.save_steps=1",
        "trainer.args.save_only_model=false",
    )
    framework.train(*command)
    (folder,) = framework.saved("").glob("tofu_forget10_*_BalDRO_G_*per_device_train_batch_size-5*")
    whole = load_file(folder / "model.safetensors")
    for later in ("checkpoint-3", "checkpoint-4"):
        shutil.rmtree(folder / later)
    (folder / "model.safetensors").unlink()
    framework.train(*command, "+trainer.args.resume_from_checkpoint=true")
    torch.testing.assert_close(load_file(folder / "model.safetensors"), whole, rtol=0, atol=0)
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3, 4]


@pytest.mark.generations("G2")
def test_batches_of_one_choose_from_the_whole_forget_set(framework: Framework) -> None:
    framework.train(
        "trainer=BalDRO_G",
        "experiment=unlearn/tofu",
        "trainer.method_args.scope=dataset",
        "trainer.args.per_device_train_batch_size=1",
        "trainer.args.gradient_accumulation_steps=2",
        "trainer.args.num_train_epochs=1",
        "task_name=ones",
    )
    assert framework.steps("ones")[-1]["effective_sample_size"] == pytest.approx(5)
    history = json.loads((framework.saved("ones") / "trainer_state.json").read_text())["log_history"]
    (epoch,) = [entry for entry in history if "forget_set_loss_mean" in entry]
    assert epoch["forget_set_loss_mean"] <= epoch["forget_set_loss_worst_decile"] <= epoch["forget_set_loss_largest"]
    assert len({epoch[f"forget_set_hardest_{rank}"] for rank in range(1, 6)}) == 5


@pytest.mark.generations("G2")
def test_trackers_get_a_histogram_of_the_weights_each_epoch(framework: Framework) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs = framework.saved("tracked") / "runs"  # where transformers 5 puts them in any case
    framework.train(
        "trainer=BalDRO_G",
        "experiment=unlearn/tofu",
        "trainer.args.num_train_epochs=2",
        f"trainer.args.logging_dir={runs}",
        "task_name=tracked",
        common=(*TRAIN[:-2], "trainer.args.report_to=tensorboard"),
    )
    (path,) = runs.rglob("events.out.*")
    events = EventAccumulator(str(path), size_guidance={"histograms": 0}).Reload()
    drawn = events.Histograms("forget_set_relative_weights")
    assert len(drawn) == 2
    # The top half of 10 samples weigh 2, the others nothing.
    assert [(entry.histogram_value.num, entry.histogram_value.sum) for entry in drawn] == [(10, 10), (10, 10)]
    assert "train/forget_set_loss_worst_decile" in events.Tags()["scalars"]
