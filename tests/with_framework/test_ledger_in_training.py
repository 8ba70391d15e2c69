"""The ledger in the framework's own training: the reference, the ranks, an interruption."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .conftest import MODEL, Framework
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


@pytest.mark.parametrize("scope", ["batch", "dataset"])
def test_two_processes_train_as_one(framework: Framework, scope: str) -> None:
    """Of 10 samples in steps of 2 x 2 or 1 x 4, the last holds 2: one process has only padding then."""
    common = (
        "trainer=BalDRO_DV",
        "experiment=unlearn/tofu",
        f"trainer.method_args.scope={scope}",
        "trainer.method_args.alpha=0",  # each process draws retain samples of its own
        "trainer.args.ddp_find_unused_parameters=false",  # the framework's YAML passes the text None
        *SGD,
    )
    framework.train(*common, f"task_name={scope}_1x4", "trainer.args.per_device_train_batch_size=4")
    framework.train_on(2, *common, f"task_name={scope}_2x2", "trainer.args.per_device_train_batch_size=2")
    torch.testing.assert_close(
        weights(framework, f"{scope}_2x2"), weights(framework, f"{scope}_1x4"), rtol=0, atol=1e-6
    )
    two, one = (load_file(framework.saved(f"{scope}_{run}") / "baldro_ledger.safetensors") for run in ("2x2", "1x4"))
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=1e-5)


def test_runs_killed_between_two_steps_resume_to_the_same_weights(framework: Framework, tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("interrupted.py"))
    # transformers 4.45 reads random states with a torch.load that torch 2.6 and later restrict to weights.
    env = {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"} if framework.name == "G1" else None
    output = framework.run(script, str(framework.checkout), framework.name, MODEL, str(tmp_path), env=env)
    assert output.count("resumed to the same weights and ledger") == 10


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
