"""Models of a few thousand parameters, made-up samples, and the arguments of a quiet run on the CPU."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from baldro_ext import BalDROTrainer, ForgetRetainDataset

VOCABULARY = 64

# Runs of a second each: threads would wait for each other longer than they compute, and what a Trainer collects as
# garbage when it starts would be sought among all the libraries.
torch.set_num_threads(1)
gc.freeze()


SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def llama(*, dropout: float = 0.0, seed: int = 0, model: type[LlamaForCausalLM] = LlamaForCausalLM) -> LlamaForCausalLM:
    """Return a model of one layer, whose weights depend on the seed alone."""
    config = LlamaConfig(**SIZE, max_position_embeddings=64, attention_dropout=dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model(config)


def lora(base: torch.nn.Module) -> Any:
    """Return a model with adapters, whose weights depend on nothing."""
    import peft

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return peft.get_peft_model(
            base, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=0.1, task_type="CAUSAL_LM")
        )


def samples(number: int, seed: int, *, longest: int = 12) -> list[dict[str, list[int]]]:
    """Return samples of two prompt tokens and an answer."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(number):
        length = int(torch.randint(6, longest, (), generator=generator))
        tokens = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        made.append({"input_ids": tokens, "labels": [-100, -100, *tokens[2:]]})
    return made


def unanswered(sample: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return a sample without its answer, as one whose prompt fills `max_length`."""
    return {"input_ids": sample["input_ids"], "labels": [-100] * len(sample["labels"])}


def pairs(forget: int, retain: int = 40) -> ForgetRetainDataset:
    return ForgetRetainDataset(samples(forget, seed=1), samples(retain, seed=2))


def arguments(folder: Path | str, **given: Any) -> TrainingArguments:
    quiet = {"use_cpu": True, "report_to": [], "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1}
    return TrainingArguments(str(folder), **{**quiet, "learning_rate": 1e-2, **given})


def columns(trainer: BalDROTrainer) -> dict[str, torch.Tensor]:
    """What a trainer has after training: weights by name, what it knows of each forget sample, and of its budget."""
    state = trainer.adversary.state
    known = {"losses": state.losses, "hardness": state.hardness, "seen": state.seen, "reference": state.reference}
    weights = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    known["budget"] = trainer.budget.state if trainer.budget else None
    return weights | {name: column.clone() for name, column in known.items() if column is not None}


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> Sequence[str]:
    """Name what is not the same to the last bit."""
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name].nan_to_num(), other[name].nan_to_num())]
