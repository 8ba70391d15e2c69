"""Kills training runs by SIGKILL at random moments, resumes each, and compares it with the uninterrupted run.

Usage: python -m tests.kill_points FOLDER [--points 100] [--seed 0]

Prints a line per setting, and one in total: how many resumed runs were the uninterrupted one bit by bit (weights, and
what is known of each forget sample), how many said in words why they cannot be resumed, and how many were lost, each
with what happened. Fails where one is lost. 100 points take a few minutes on a core; FOLDER is left empty.
"""

import argparse
import contextlib
import itertools
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from baldro_ext import BalDROTrainer
from baldro_ext.checkpoint import StateError, step_of

from .tiny import arguments, columns, differing, llama, lora, pairs

CHOICES: dict[str, tuple[Any, ...]] = {
    "scope": ("batch", "dataset"),
    "base": ("NPO", "SimNPO"),
    "accumulation": (1, 2, 4),
    "workers": (0, 2),
    "LoRA": ("no", "yes"),
    "keeps": (1, "all"),
    "budget": ("no", 0.05),
}
OUTCOMES = ("bit-identical", "refused in words", "lost")
Setting = dict[str, Any]
_DONE, _REFUSED, _CRASHED = range(3)


def settings(number: int) -> list[Setting]:
    """Return some of the settings, of which the first few have each pair of choices."""
    every = [dict(zip(CHOICES, values, strict=True)) for values in itertools.product(*CHOICES.values())]
    random.Random(0).shuffle(every)
    chosen: list[Setting] = []
    met: set[tuple[Any, ...]] = set()
    for _ in range(number):
        best = max(every, key=lambda one: len(set(_pairs(one)) - met))
        every.remove(best)
        chosen.append(best)
        met.update(_pairs(best))
    return chosen


def _pairs(setting: Setting) -> Iterator[tuple[Any, ...]]:
    return itertools.combinations(setting.items(), 2)


def train(folder: Path, setting: Setting, resume: bool) -> None:
    """Train on 16 samples for 3 epochs with a checkpoint after each step, and leave the result in a file."""
    model = llama(dropout=0.2)
    trainer = BalDROTrainer(
        lora(model) if setting["LoRA"] == "yes" else model,
        arguments(
            folder,
            per_device_train_batch_size=4,
            num_train_epochs=3,
            gradient_accumulation_steps=setting["accumulation"],
            dataloader_num_workers=setting["workers"],
            save_strategy="steps",
            save_steps=1,
            save_total_limit=None if setting["keeps"] == "all" else setting["keeps"],
        ),
        base=setting["base"],
        scope=setting["scope"],
        retain_budget=None if setting["budget"] == "no" else setting["budget"],
        train_dataset=pairs(16),
    )
    (folder / "training").touch()
    trainer.train(resume_from_checkpoint=resume)
    torch.save(columns(trainer), folder / "result.pt")


def forked(folder: Path, action: Callable[[], None]) -> int:
    """Do something in a process of its own, which can be killed with its loader workers; return its id."""
    if child := os.fork():
        return child
    os.setpgid(0, 0)
    status = _DONE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "output").open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        action()
    except StateError as error:
        status = _REFUSED
        (folder / "words").write_text(str(error))
    except BaseException:
        status = _CRASHED
        (folder / "words").write_text(traceback.format_exc())
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(folder: Path, setting: Setting, seconds: float, chance: random.Random) -> str:
    """Kill a run at a random moment of the seconds that its training takes; return where that was."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        child = forked(folder, lambda: train(folder, setting, resume=False))
        while not (folder / "training").exists():
            if os.waitpid(child, os.WNOHANG)[0]:
                raise RuntimeError((folder / "words").read_text())
            time.sleep(0.001)
        time.sleep(chance.random() * seconds)
        with contextlib.suppress(ProcessLookupError):  # it is at its end
            os.killpg(child, signal.SIGKILL)  # with its loader workers
        if ended(child) == -signal.SIGKILL:
            return _place(folder)
        seconds *= 0.9  # the machine has become faster
    raise RuntimeError("the run ended before it could be killed, 20 times")


def _place(folder: Path) -> str:
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if not found:
        return "before the first checkpoint"
    try:
        step_of(found[-1])
    except StateError:
        return "while a checkpoint was written"
    return "after a checkpoint"


def outcome(folder: Path, setting: Setting, expected: dict[str, torch.Tensor]) -> tuple[str, str]:
    """Resume a killed run; return what came of it, and in which words."""
    status = ended(forked(folder, lambda: train(folder, setting, resume=True)))
    if status == _DONE:
        names = differing(torch.load(folder / "result.pt", weights_only=True), expected)
        return ("lost", f"{len(names)} columns differ, {names[0]} first") if names else ("bit-identical", "")
    words = (folder / "words").read_text().replace(str(folder), "FOLDER") if (folder / "words").exists() else ""
    return ("refused in words", words) if status == _REFUSED else ("lost", f"exit status {status}\n{words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    began, chance = time.monotonic(), random.Random(options.seed)
    total, places, words = Counter[str](), Counter[str](), Counter[str]()
    chosen = settings(min(-(-options.points // 2), 20))
    print(*(f"{name:>14}" for name in CHOICES), *(f"{name:>18}" for name in OUTCOMES), sep="", flush=True)
    for number, setting in enumerate(chosen):
        whole, killed = options.folder / "whole", options.folder / "killed"
        if ended(forked(whole, lambda whole=whole, setting=setting: train(whole, setting, resume=False))) != _DONE:
            raise SystemExit(f"the uninterrupted run failed:\n{(whole / 'words').read_text()}")
        seconds = (whole / "result.pt").stat().st_mtime - (whole / "training").stat().st_mtime
        expected = torch.load(whole / "result.pt", weights_only=True)
        counts = Counter[str]()
        for _ in range(number, options.points, len(chosen)):
            places[kill(killed, setting, seconds, chance)] += 1
            what, said = outcome(killed, setting, expected)
            counts[what] += 1
            words[f"{what}: {re.sub(r'checkpoint-[0-9]+', 'checkpoint-N', said)}"] += said != ""
        print(*(f"{value:>14}" for value in setting.values()), *(f"{counts[name]:>18}" for name in OUTCOMES), sep="")
        sys.stdout.flush()
        total += counts
        shutil.rmtree(whole)
        shutil.rmtree(killed)
    print(f"\n{options.points} kill points: " + ", ".join(f"{total[name]} {name}" for name in OUTCOMES))
    print("killed " + ", ".join(f"{count} times {place}" for place, count in places.most_common()))
    for said, count in words.most_common():
        if count:
            print(f"{count} times {said}")
    print(f"{time.monotonic() - began:.0f} s")
    return 1 if total["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
