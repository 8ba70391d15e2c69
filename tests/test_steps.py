"""An optimizer step is the mean over its micro-batches, whatever the window, in every release of transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, Trainer

from baldro_ext import BalDROTrainer, ForgetRetainCollator, ForgetRetainDataset, compat
from baldro_ext.open_unlearning.accumulation import averaged
from baldro_ext.step_mean import StepMean

from .tiny import arguments

pytestmark = pytest.mark.transformers

RETAIN = 5
BETA = 2.0
EVENTS = list[tuple[str, Any]]


class Bias(nn.Module):
    """Predicts every token by one bias per token, and notes the answers of each pass that is trained on.

    Sample i of either set has one answer token of its own, so that an optimizer's gradient tells which samples it is
    of, and how much each of them counts.
    """

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.config = PretrainedConfig()
        self.bias = nn.Parameter(torch.linspace(-1, 1, vocabulary))
        self.events: EVENTS = []

    def forward(self, input_ids: Tensor) -> Any:
        if torch.is_grad_enabled():
            self.events.append(("pass", input_ids[:, 0].tolist()))
        return SimpleNamespace(logits=self.bias.expand(*input_ids.shape, -1))


class Notes(torch.optim.Optimizer):
    """Notes the gradients it is given, and leaves the model as it is."""

    def __init__(self, model: Bias) -> None:
        super().__init__(model.parameters(), {"lr": 0.0})
        self._model = model

    def step(self, closure: Any = None) -> None:
        self._model.events.append(("step", self._model.bias.grad.double().numpy().copy()))


@dataclass
class Run:
    """What happened in a training run on `size` forget samples."""

    size: int
    trainer: BalDROTrainer
    micro_batches: list[tuple[list[int], list[int]]] = field(default_factory=list)
    steps: list[tuple[int, np.ndarray]] = field(default_factory=list)
    """How many micro-batches had been trained on at each step, and its gradient."""

    @classmethod
    def of(cls, folder: Path, size: int, batch: int, accumulation: int, epochs: int, weights: str) -> Run:
        forget = [{"input_ids": [token, token], "labels": [-100, token]} for token in range(size)]
        retain = [{"input_ids": [token, token], "labels": [-100, token]} for token in range(size, size + RETAIN)]
        model = Bias(size + RETAIN)
        run = cls(
            size,
            BalDROTrainer(
                model,
                arguments(
                    folder,
                    per_device_train_batch_size=batch,
                    gradient_accumulation_steps=accumulation,
                    num_train_epochs=epochs,
                    max_grad_norm=0,
                    logging_strategy="no",
                ),
                base="GradDiff",
                dv_beta=float("inf") if weights == "even" else BETA,
                scope="dataset" if weights == "dataset" else "batch",
                train_dataset=ForgetRetainDataset(forget, retain),
                optimizers=(Notes(model), None),
            ),
        )
        run.trainer.train()
        passes: list[list[int]] = []
        for kind, what in model.events:
            if kind == "pass":
                passes.append(what)
            else:
                run.steps.append((len(passes) // 2, what))
        # A micro-batch is a pass over forget samples and one over as many to retain.
        run.micro_batches = list(zip(passes[::2], passes[1::2], strict=True))
        return run

    def gradient(self, forget: list[int], retain: list[int], weights: str) -> np.ndarray:
        """The gradient of one micro-batch, in closed form: that of `log p(y)` is `onehot(y) - p`."""
        bias = np.linspace(-1, 1, self.size + RETAIN)
        p = np.exp(bias) / np.exp(bias).sum()
        loss = np.log(p)
        if weights == "even":
            q = np.full(len(forget), 1 / len(forget))
        elif weights == "batch":
            q = np.exp(loss[forget] / BETA) / np.exp(loss[forget] / BETA).sum()
        else:
            whole = np.exp(loss[: self.size] / BETA) / np.exp(loss[: self.size] / BETA).sum()
            q = whole[forget] * self.size / len(forget)
        found = -q.sum() * p + p
        np.add.at(found, forget, q)
        np.add.at(found, retain, -1 / len(retain))
        return found


def check(folder: Path, size: int, batch: int, accumulation: int, epochs: int, weights: str) -> None:
    run = Run.of(folder, size, batch, accumulation, epochs, weights)
    per_epoch = -(-size // batch)

    # Every forget sample once per epoch, as far as training went, each micro-batch with as much to retain.
    for start in range(0, len(run.micro_batches), per_epoch):
        epoch = [token for forget, _ in run.micro_batches[start : start + per_epoch] for token in forget]
        assert len(set(epoch)) == len(epoch)
        if start + per_epoch <= len(run.micro_batches):
            assert sorted(epoch) == list(range(size))
    for forget, retain in run.micro_batches:
        assert len(forget) == len(retain)
        assert set(retain) <= set(range(size, size + RETAIN))

    # Each micro-batch in one step, and each step the mean of its own.
    assert len(run.steps) == run.trainer.state.global_step == run.trainer.state.max_steps
    assert run.steps[-1][0] == len(run.micro_batches)
    before = 0
    for end, gradient in run.steps:
        assert 0 < end - before <= accumulation
        of_each = [run.gradient(*micro_batch, weights) for micro_batch in run.micro_batches[before:end]]
        np.testing.assert_allclose(gradient, np.mean(of_each, 0), rtol=0, atol=1e-5)
        before = end


@pytest.mark.parametrize(
    ("size", "batch", "accumulation"), [(65, 2, 8), (553, 4, 8), (400, 8, 4), (46, 3, 3), (1, 8, 8), (2, 1, 8)]
)
@pytest.mark.parametrize("weights", ["batch", "dataset"])
def test_a_step_is_the_mean_of_its_micro_batches_for(
    size: int, batch: int, accumulation: int, weights: str, tmp_path: Path
) -> None:
    if batch == 1 and weights == "batch":
        weights = "even"  # there is no worst of one sample
    check(tmp_path, size, batch, accumulation, 3, weights)


class Baseline(Trainer):
    """Its loss is a mean per micro-batch, as that of the framework's trainers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = True  # as with most models

    def compute_loss(self, model: nn.Module, inputs: dict[str, Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return functional.cross_entropy(model(inputs["input_ids"]).logits[:, 0], inputs["labels"][:, 1])


@pytest.mark.parametrize(("size", "batch", "accumulation"), [(14, 2, 4), (22, 2, 8), (12, 3, 2)])
def test_an_averaged_baseline_steps_where_the_method_does(
    size: int, batch: int, accumulation: int, tmp_path: Path
) -> None:
    given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "num_train_epochs": 2}
    tokens = [{"input_ids": [token, token], "labels": [-100, token]} for token in range(size)]
    model = Bias(size)
    trainer = averaged(Baseline)(
        model,
        arguments(tmp_path, **given, max_grad_norm=0, remove_unused_columns=False),
        train_dataset=tokens,
        data_collator=ForgetRetainCollator(0),
        optimizers=(Notes(model), None),
    )
    trainer.train()
    passes: list[list[int]] = []
    steps: list[int] = []
    p = np.exp(np.linspace(-1, 1, size)) / np.exp(np.linspace(-1, 1, size)).sum()
    for kind, what in model.events:
        if kind == "pass":
            passes.append(what)
            continue
        of_step = passes[steps[-1] if steps else 0 :]
        np.testing.assert_allclose(
            what, p - np.mean([np.eye(size)[tokens].mean(0) for tokens in of_step], 0), atol=1e-5
        )
        steps.append(len(passes))
    ours = Run.of(tmp_path, size, batch, accumulation, 2, "even")
    assert steps == [end for end, _ in ours.steps]
    assert len(steps) == trainer.state.max_steps


@settings(max_examples=25)
@given(
    size=st.integers(1, 24) | st.integers(25, 200),  # shorter than a window, and longer
    batch=st.sampled_from([1, 2, 3, 8]),
    accumulation=st.sampled_from([1, 2, 3, 4, 8]),
    epochs=st.sampled_from([2, 3]),
    weights=st.sampled_from(["even", "batch", "dataset"]),
)
def test_a_step_is_the_mean_of_its_micro_batches(
    size: int, batch: int, accumulation: int, epochs: int, weights: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(batch > 1 or weights != "batch")  # there is no worst of one sample
    check(tmp_path_factory.getbasetemp() / "steps", size, batch, accumulation, epochs, weights)


def steps_of_4_45(epoch_length: int, accumulation: int, epochs: int) -> list[list[tuple[int, int]]]:
    """The micro-batches `(epoch, place)` of each optimizer step, by the loop of transformers 4.45."""
    steps: list[list[tuple[int, int]]] = [[]]
    total = 0
    for epoch in range(epochs):
        for place in range(epoch_length):
            total += 1
            steps[-1].append((epoch, place))
            short_epoch_ends = epoch_length <= accumulation and place + 1 == epoch_length
            if total % accumulation == 0 or short_epoch_ends:
                steps.append([])
    return steps[:-1]  # what is left over is never stepped on


LENGTHS = [(length, accumulation) for length in range(1, 20) for accumulation in range(1, 12)]


def test_the_steps_of_transformers_4_45_are_counted_as_it_takes_them() -> None:
    for length, accumulation in LENGTHS:
        for step in steps_of_4_45(length, accumulation, epochs=5):
            for epoch, place in step:
                counted = compat.micro_batches_of_step(epoch * length + place, length, accumulation)
                assert counted == len(step), (length, accumulation, epoch, place)


@pytest.mark.parametrize("fetched", [True, False], ids=["fetched together", "as they come"])
def test_corrected_losses_make_each_step_a_mean(fetched: bool) -> None:
    for length, accumulation in LENGTHS:
        mean = StepMean(length, accumulation)
        whole = [accumulation] * (length // accumulation) + [length % accumulation] * (length % accumulation > 0)
        sizes = 3 * whole if fetched else [len(step) for step in steps_of_4_45(length, accumulation, epochs=3)]
        for size in sizes:
            if fetched:
                mean.fetched = size
            divisor = size if compat.DIVIDES_BY_STEP else accumulation
            assert sum(mean.factor() for _ in range(size)) / divisor == pytest.approx(1), (length, accumulation)


def test_training_goes_on_in_the_epoch_and_at_the_step_of_a_checkpoint(tmp_path: Path) -> None:
    args = arguments(tmp_path, per_device_train_batch_size=2)
    sample = {"input_ids": [0, 0], "labels": [-100, 0]}
    trainer = BalDROTrainer(Bias(2), args, base="GradDiff", train_dataset=ForgetRetainDataset([sample] * 2, [sample]))
    trainer.state.max_steps = 1000
    event = (trainer.args, trainer.state, trainer.control)
    for length, accumulation in LENGTHS:
        trainer.args.gradient_accumulation_steps = accumulation
        per_epoch = -(-length // accumulation)
        for trainer.state.global_step in range(4 * per_epoch):
            trainer.on_train_begin(*event, train_dataloader=range(length))
            for epochs_later in (0, 1):
                trainer.adversary.state.seen[:] = True
                trainer.on_epoch_begin(*event)
                assert trainer.train_dataset.epoch == trainer.state.global_step // per_epoch + epochs_later
                resumed_within = trainer.state.global_step % per_epoch > 0 and epochs_later == 0
                assert trainer.adversary.state.seen.all() == resumed_within
