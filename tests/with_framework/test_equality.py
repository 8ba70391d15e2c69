"""Where the method must not differ: from the built-in trainers, and from itself under accumulation."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from .conftest import Framework

pytestmark = pytest.mark.framework


def weights(framework: Framework, task: str) -> torch.Tensor:
    """All parameters of a trained model, as one vector."""
    tensors = load_file(framework.saved(task) / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def test_even_weights_end_in_the_weights_of_the_built_in_trainer(framework: Framework, tmp_path: Path) -> None:
    assert framework.script("even_weights.py", str(tmp_path)).count(" with even weights ends as ") == 6


@pytest.mark.generations("G2")
def test_every_base_with_even_weights_has_the_loss_and_gradient_of_the_built_in_trainer(framework: Framework) -> None:
    assert framework.script("even_losses.py").count(" agrees with the built-in trainer: ") == 14


def test_release_presets_have_the_value_and_gradient_of_the_released_formulas(framework: Framework) -> None:
    output = framework.script("released_formulas.py")
    assert output.count("equals the release") == 6


# Losses per sample, so that batches may be cut anywhere.
EVEN = (
    "trainer=BalDRO_DV_SimNPO",
    "trainer.method_args.dv_beta=.inf",
    "trainer.method_args.retain_reduction=sequence_sum",
)
BUILT_IN = ("trainer=NPO", "trainer.method_args.alpha=0", "+accumulation=averaged")


@pytest.mark.parametrize("method", [EVEN, BUILT_IN], ids=["BalDRO", "NPO with +accumulation=averaged"])
def test_one_step_of_4_x_2_samples_equals_one_of_1_x_8(framework: Framework, method: tuple[str, ...]) -> None:
    common = (
        *method,
        "experiment=unlearn/tofu",
        # 10 samples make steps of 8 and 2, except that transformers 4.45 continues the second one in the next epoch.
        f"+trainer.args.max_steps={1 if framework.name == 'G1' else 2}",
        # Plain SGD without clipping, where a gradient that is k times too large moves k times too far.
        "trainer.args.optim=sgd",
        "+trainer.args.max_grad_norm=0",
        "trainer.args.weight_decay=0",
        "trainer.args.learning_rate=1e-2",
        "+trainer.args.lr_scheduler_type=constant",
    )
    for size, accumulation in ((2, 4), (8, 1)):
        framework.train(
            *common,
            f"task_name=steps_{size}",
            f"trainer.args.per_device_train_batch_size={size}",
            f"trainer.args.gradient_accumulation_steps={accumulation}",
        )
    torch.testing.assert_close(weights(framework, "steps_2"), weights(framework, "steps_8"), rtol=0, atol=1e-6)
    losses = [framework.steps(f"steps_{size}")[0] for size in (2, 8)]
    for name in {"loss", "forget_loss_mean", "retain_loss"} & losses[0].keys():
        assert losses[0][name] == pytest.approx(losses[1][name], rel=1e-4)


def test_the_last_step_of_an_epoch_is_a_mean_too(framework: Framework) -> None:
    """10 samples make 2 micro-batches of 8 and 2, fewer than the 4 that a step would hold."""
    for accumulation in (4, 2):
        framework.train(
            "trainer=BalDRO_DV",
            "experiment=unlearn/tofu",
            f"task_name=short_step_{accumulation}",
            "trainer.args.num_train_epochs=1",
            f"trainer.args.gradient_accumulation_steps={accumulation}",
            "trainer.args.optim=sgd",
            "+trainer.args.max_grad_norm=0",
            "trainer.args.weight_decay=0",
            "trainer.args.learning_rate=1e-2",
            "+trainer.args.lr_scheduler_type=constant",
        )
    (of_four,), (of_two,) = (framework.steps(f"short_step_{accumulation}") for accumulation in (4, 2))
    assert of_four["loss"] == pytest.approx(of_four["forget_loss_robust"] + of_four["retain_loss"], rel=1e-3)
    assert of_four["loss"] == pytest.approx(of_two["loss"], rel=1e-3)
    torch.testing.assert_close(
        weights(framework, "short_step_4"), weights(framework, "short_step_2"), rtol=0, atol=1e-6
    )


@pytest.mark.generations("G2")
def test_the_plain_host_has_the_samples_loss_and_gradient_of_the_frameworks(framework: Framework) -> None:
    assert framework.script("hosts_agree.py").count(" agrees: ") == 7
