"""Trains by every kind of method on the CPU and on another device, and prints what differs, as one JSON object.

Usage: python -m tests.devices DEVICE [CHECKOUT GENERATION MODEL]

DEVICE is `cuda`, or `other` or `other-without-float64` for the device of tests/second_device.py. With a checkout of the
framework, its own Trainer trains in the current working folder; without, `BalDROTrainer` on made-up samples.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from baldro_ext import BalDROTrainer, ForgetRetainDataset

from . import second_device
from .cases import METHODS

STEPS = 3
Build = Callable[[str], Any]


def samples(number: int, seed: int) -> list[dict[str, list[int]]]:
    """Random samples of different lengths, the third without an answer."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for place in range(number):
        tokens = torch.randint(3, 50, (int(torch.randint(8, 20, (), generator=generator)),), generator=generator)
        prompt = len(tokens) if place == 2 else 4
        made.append({"input_ids": tokens.tolist(), "labels": [-100] * prompt + tokens[prompt:].tolist()})
    return made


def plain(name: str, *, use_cpu: bool = True) -> Any:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    variant, settings = METHODS[name]
    return BalDROTrainer(
        LlamaForCausalLM(LlamaConfig(vocab_size=50, **size)),
        TrainingArguments(
            tempfile.mkdtemp(),
            use_cpu=use_cpu,
            per_device_train_batch_size=4,
            max_steps=STEPS,
            optim="sgd",  # an adaptive one would blow up rounding where a gradient is nearly zero
            learning_rate=0.1,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        ),
        variant=variant,
        train_dataset=ForgetRetainDataset(samples(8, 1), samples(16, 2)),
        **settings,
    )


def of_framework(name: str) -> Any:
    sys.path.insert(0, str(Path(__file__).parent / "with_framework"))
    from in_process import make_trainer  # type: ignore[import-not-found]

    variant, settings = METHODS[name]
    base = settings.get("base", "NPO")
    words = {key: "null" if value is None else value for key, value in settings.items() if key != "base"}
    return make_trainer(
        (sys.argv[2], sys.argv[3], sys.argv[4]),
        f"trainer={variant}" + ("" if base == "NPO" else f"_{base}"),
        "experiment=unlearn/tofu",
        f"paths.output_dir={tempfile.mkdtemp()}",
        "trainer.args.per_device_train_batch_size=4",
        "trainer.args.gradient_accumulation_steps=1",
        f"+trainer.args.max_steps={STEPS}",
        "trainer.args.optim=sgd",
        "trainer.args.learning_rate=0.1",
        "trainer.args.logging_steps=1",
        *(f"++trainer.method_args.{key}={value}" for key, value in words.items()),
    )


class OutsideTheModel:
    """Counts what makes the host wait in a micro-batch, but for what models do inside their forward pass."""

    def __init__(self, *models: torch.nn.Module) -> None:
        self._before = second_device.waits.copy()
        for model in models:
            model.register_forward_pre_hook(lambda *_: self._remember())
            model.register_forward_hook(lambda *_: self._restore())

    def _remember(self) -> None:
        self._before = second_device.waits.copy()

    def _restore(self) -> None:
        second_device.waits.clear()
        second_device.waits.update(self._before)


def weights_of(trainer: Any) -> torch.Tensor:
    return torch.cat([parameter.detach().cpu().flatten() for parameter in trainer.model.parameters()])


def losses_of(trainer: Any) -> list[float]:
    """Train; return the loss of each step."""
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def waits_of_a_micro_batch(trainer: Any) -> int:
    """How often the host waits for the device in one micro-batch, forward and backward, of a trainer that trained."""
    batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[place] for place in range(4)]))
    trainer.model.train()
    copies = (getattr(trainer, name, None) for name in ("_before", "ref_model"))
    OutsideTheModel(trainer.model, *(model for model in copies if model is not None))
    with second_device.counting_waits() as waits:
        trainer.compute_loss(trainer.model, batch).backward()
    return waits.total()


def main() -> None:
    device, *framework = sys.argv[1:]
    build: Build = of_framework if framework else plain
    if device != "cuda":
        second_device.install(float64=device == "other")
    report = {}
    for name in METHODS:
        here = build(name)
        before, losses = weights_of(here), losses_of(here)
        try:
            there = plain(name, use_cpu=False) if device == "cuda" else second_device.move(build(name))
            losses_there = losses_of(there)
        except (RuntimeError, TypeError) as error:
            report[name] = {"error": f"{type(error).__name__}: {error}"}
            continue
        report[name] = {
            "losses": losses,
            "losses_there": losses_there,
            "moved": (weights_of(here) - before).abs().max().item(),
            "difference": (weights_of(here) - weights_of(there)).abs().max().item(),
        }
        if device != "cuda":
            report[name]["waits"] = waits_of_a_micro_batch(there)
    print(f"report: {json.dumps(report)}")


if __name__ == "__main__":
    main()
