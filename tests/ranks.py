"""Trains on several data-parallel ranks, and leaves of each case what each rank saw in `FOLDER/CASE/RANK.pt`.

Usage: python -m torch.distributed.run --standalone --nproc_per_node 2 -m tests.ranks FOLDER

Judge by the files: at the end of a process gloo now and then aborts a rank whose work is done.
"""

import itertools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler

from baldro_ext import BalDROTrainer, ForgetRetainDataset

from .tiny import arguments, columns, llama, pairs, samples, unanswered

# accelerate 0.34 calls the CPU of each rank cpu:0, and torch 2.13 reads no optimizer to such a place.
torch.serialization.register_package(
    0, lambda storage: None, lambda storage, place: storage if place == "cpu:0" else None
)

RANK, RANKS = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
BATCH = 2
VARIANTS = ("BalDRO_DV", "BalDRO_G")
SCOPES = ("batch", "dataset")
UNANSWERED = ("every rank", "one rank")


class InOrder(BalDROTrainer):
    """Takes the samples as they stand: of each `ranks * BATCH` of them, the first `BATCH` come to rank 0."""

    def _get_train_sampler(self, *args: Any) -> Any:
        return SequentialSampler(self.train_dataset)


class Noted(ForgetRetainDataset):
    """Notes which retain sample is drawn for which forget sample."""

    def __init__(self, forget: int, retain: int) -> None:
        super().__init__(samples(forget, 1), [{**one, "place": i} for i, one in enumerate(samples(retain, 2))])
        self.drawn: list[tuple[int, int]] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = super().__getitem__(index)
        self.drawn.append((index, item["retain"]["place"]))
        return item


def build(
    folder: Path,
    given: dict[str, Any],
    settings: dict[str, Any],
    *,
    kind: type[BalDROTrainer] = BalDROTrainer,
    dropout: float = 0.0,
) -> BalDROTrainer:
    defaults = {"per_device_train_batch_size": BATCH, "num_train_epochs": 2, "ddp_timeout": 60}
    return kind(llama(dropout=dropout), arguments(folder, **{**defaults, **given}), **settings)


def partly_unanswered(ranks: int, where: str) -> list[dict[str, list[int]]]:
    """Return samples for four micro-batches on each rank, of which the second has no answers on some ranks."""
    forget = samples(4 * BATCH * ranks, 1)
    second = BATCH * ranks
    without = range(second, second + (BATCH if where == "one rank" else BATCH * ranks))
    return [unanswered(sample) if place in without else sample for place, sample in enumerate(forget)]


def with_unanswered(folder: Path, ranks: int, batch: int, where: str, settings: dict[str, Any]) -> BalDROTrainer:
    """Train on them, in whatever number of processes: by plain SGD, which does not make a mountain of a rounding."""
    data = ForgetRetainDataset(partly_unanswered(ranks, where), samples(40, 2))
    given = {"per_device_train_batch_size": batch, "optim": "sgd", "learning_rate": 0.1}
    # Retain samples of ranks are averaged by rank, not by token.
    trainer = build(folder, given, {"train_dataset": data, "alpha": 0.0, **settings}, kind=InOrder)
    trainer.train()
    return trainer


def draws(folder: Path) -> dict[str, Any]:
    data = Noted(4 * BATCH * RANKS, 100)
    build(folder, {}, {"train_dataset": data}).train()
    return {"drawn": data.drawn}


def state(folder: Path, variant: str, scope: str) -> dict[str, Any]:
    """Train on samples of which the last micro-batches are filled up."""
    data = pairs(6 * BATCH * RANKS + 1)
    trainer = build(folder, {}, {"variant": variant, "scope": scope, "train_dataset": data})
    trainer.train()
    return {"columns": columns(trainer)}


def budget(folder: Path) -> dict[str, Any]:
    given = {"gradient_accumulation_steps": 2, "num_train_epochs": 3}
    trainer = build(folder, given, {"retain_budget": 0.05, "train_dataset": pairs(8 * BATCH * RANKS)})
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "alpha" in entry]
    return {
        "columns": columns(trainer),
        **{name: [step[name] for step in steps] for name in ("alpha", "retain_loss", "retain_excess")},
    }


def unlabeled(folder: Path, where: str, settings: dict[str, Any]) -> dict[str, Any]:
    trainer = with_unanswered(folder, RANKS, BATCH, where, settings)
    return {"columns": columns(trainer), "known": trainer.adversary.state.has_loss}


def ends(folder: Path, size: int, batch: int, accumulation: int) -> dict[str, Any]:
    given = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 3,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    found = {}
    for name, resume in (("whole", None), ("resumed", str(folder / "checkpoint-3"))):
        trainer = build(folder, given, {"train_dataset": pairs(size), "scope": "dataset"})
        try:
            trainer.train(resume_from_checkpoint=resume)
        except ValueError as error:
            found[name] = {"error": str(error)}
        else:
            found[name] = {
                "columns": columns(trainer),
                "steps": (trainer.state.global_step, trainer.state.max_steps),
                "seen": int(trainer.adversary.state.seen.sum()),
            }
        trainer.accelerator.wait_for_everyone()
        given["save_strategy"] = "no"
    return found


def resuming(folder: Path, variant: str, scope: str) -> dict[str, Any]:
    """Resume from each checkpoint of a run with filled up micro-batches, and from the newest that all ranks wrote."""
    data = pairs(4 * BATCH * RANKS - 1)
    given: dict[str, Any] = {"gradient_accumulation_steps": 2, "num_train_epochs": 3, "save_steps": 1}
    settings = {"variant": variant, "scope": scope, "train_dataset": data}
    whole = build(folder, {**given, "save_strategy": "steps"}, settings, dropout=0.2)
    whole.train()
    whole.accelerator.wait_for_everyone()
    found = {"whole": columns(whole)}
    for step in range(1, 7):
        rest = build(folder, given, settings, dropout=0.2)
        rest.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
        found[f"from {step}"] = columns(rest)
    if RANK == 0:  # as if rank 1 had been killed before it wrote its random numbers
        for step in (5, 6):
            (folder / f"checkpoint-{step}" / "rng_state_1.pth").unlink()
    whole.accelerator.wait_for_everyone()
    rest = build(folder, given, settings, dropout=0.2)
    rest.train(resume_from_checkpoint=True)
    found["from the newest whole one"] = columns(rest)
    return found


def checkpointing(folder: Path, reentrant: bool) -> dict[str, Any]:
    given = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": reentrant}}
    try:
        trainer = build(folder, given, {"train_dataset": pairs(4 * BATCH * RANKS)})
    except ValueError as error:
        return {"error": str(error)}
    trainer.train()
    return {"columns": columns(trainer)}


WITH_UNANSWERED: dict[str, dict[str, Any]] = {
    f"{variant} {scope}": {"variant": variant, "scope": scope} for variant in VARIANTS for scope in SCOPES
}
SIZES = ((400, 8, 4), (46, 3, 3))
CASES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "draws": draws,
    "budget": budget,
    **{
        f"state {variant} {scope}": lambda folder, variant=variant, scope=scope: state(folder, variant, scope)
        for variant, scope in itertools.product(VARIANTS, SCOPES)
    },
    **{
        f"unanswered on {where} {name}": lambda folder, where=where, name=name: unlabeled(
            folder, where, WITH_UNANSWERED[name]
        )
        for where, name in itertools.product(UNANSWERED, WITH_UNANSWERED)
    },
    **{f"ends {size}": lambda folder, size=size, rest=rest: ends(folder, size, *rest) for size, *rest in SIZES},
    **{
        f"resuming {variant} {scope}": lambda folder, variant=variant, scope=scope: resuming(folder, variant, scope)
        for variant, scope in zip(VARIANTS, SCOPES, strict=True)
    },
    "reentrant": lambda folder: checkpointing(folder, True),
    "not reentrant": lambda folder: checkpointing(folder, False),
}


def main() -> None:
    folder = Path(sys.argv[1])
    for name, case in CASES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        try:
            found = case(folder / name / "output")
        except BaseException:
            found = {"failed": traceback.format_exc()}
        partial = folder / name / f".{RANK}.pt"
        torch.save(found, partial)
        partial.rename(folder / name / f"{RANK}.pt")
        if "failed" in found:
            break  # the ranks no longer are at the same place


if __name__ == "__main__":
    main()
