"""The demo without the framework: the same losses on a plain `transformers.Trainer`, with an evaluation of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from baldro_ext.data import ForgetRetainCollator, ForgetRetainDataset, encode_answers
from baldro_ext.logprobs import AnswerForward
from baldro_ext.tools.demo.outcome import Outcome
from baldro_ext.tools.workspace import rows_to_recite
from baldro_ext.trainer import BalDROTrainer

# With even weights BalDRO-DV around NPO is NPO.
_SETTINGS: dict[str, dict[str, Any]] = {
    "NPO": {"variant": "BalDRO_DV", "dv_beta": float("inf")},
    "BalDRO_G": {"variant": "BalDRO_G"},
    "BalDRO_DV": {"variant": "BalDRO_DV"},
    "BalDRO_DV_radius": {"variant": "BalDRO_DV", "dv_beta": None, "dv_radius": 0.5},
}
# What the framework's TOFU experiment sets, in float32 and without accumulation, at a rate for a small model.
_TRAINING = {
    "learning_rate": 2.5e-4,
    "num_train_epochs": 10,
    "per_device_train_batch_size": 8,
    "weight_decay": 0.01,
}

Samples = list[dict[str, list[int]]]


def outcomes(folder: Path, methods: Sequence[str], seed: int, say: Callable[[str], None]) -> list[Outcome]:
    """Unlearn and evaluate in a working folder with TOFU."""
    say("2/3  Evaluating the model that knows the authors to forget, and the one that never saw them")
    models = {"target": folder / "models" / "tofu_target", "retain90": folder / "models" / "tofu_retain90"}
    tokenizer = AutoTokenizer.from_pretrained(models["target"])
    forget, retain = (
        encode_answers(tokenizer, rows_to_recite(folder, split, paraphrases=False, general=False))
        for split in ("forget10", "retain90")
    )
    measured = {name: _outcome(name, model, tokenizer, forget, retain) for name, model in models.items()}
    say(f"3/3  Unlearning with {', '.join(methods)}, and evaluating")
    for method in methods:
        model = folder / "saves" / "plain" / method
        recipe = _recipe(method, models["target"], seed)
        record = model / "recipe.json"
        if not record.is_file() or record.read_text() != recipe:
            pairs = ForgetRetainDataset(forget, retain)
            _unlearn(method, models["target"], seed, pairs, tokenizer).save_model(str(model))
            record.write_text(recipe)
        measured[method] = _outcome(method, model, tokenizer, forget, retain)
    return [measured[name] for name in ("target", *methods, "retain90")]


def _unlearn(method: str, target: Path, seed: int, pairs: ForgetRetainDataset, tokenizer: Any) -> BalDROTrainer:
    set_seed(seed)
    arguments = TrainingArguments(
        str(target.parents[1] / "saves" / "plain"),
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        seed=seed,
        **_TRAINING,
    )
    trainer = BalDROTrainer(
        AutoModelForCausalLM.from_pretrained(target),
        arguments,
        train_dataset=pairs,
        processing_class=tokenizer,
        callbacks=[_Bar(method)],
        **_SETTINGS[method],
    )
    trainer.remove_callback(PrinterCallback)  # the Trainer's stand-in for the bar that `_Bar` replaces
    trainer.train()
    return trainer


class _Bar(TrainerCallback):
    """A progress bar with the method's name."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._bar: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=state.max_steps, desc=f"unlearning with {self._method}", unit="step", dynamic_ncols=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar.close()


def _outcome(name: str, place: Path, tokenizer: Any, forget: Samples, retain: Samples) -> Outcome:
    model = AutoModelForCausalLM.from_pretrained(place).eval()
    left, kept = (_probabilities(model, tokenizer, samples) for samples in (forget, retain))
    return Outcome(name, tuple(left.tolist()), {"retained answers": float(kept.mean())})


def _probabilities(model: Any, tokenizer: Any, samples: Samples) -> Tensor:
    """Return `(n,)` float32, the probability per token of each sample's answer, between 0 and 1."""
    forward, collate = AnswerForward.of(model), ForgetRetainCollator(tokenizer.pad_token_id)
    with torch.no_grad():
        parts = [forward(model, collate(samples[i : i + 32]))[0].means.exp() for i in range(0, len(samples), 32)]
    return torch.cat(parts)


def _recipe(method: str, target: Path, seed: int) -> str:
    """Return what a model depends on: the method, how it was trained, and the model before."""
    before = json.loads((target / "recipe.json").read_text())
    return json.dumps([repr(_SETTINGS[method]), _TRAINING, seed, before])
