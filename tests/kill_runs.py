"""Kills `baldro run` by SIGKILL at random moments, calls it again each time, and checks that nothing is lost or doubled.

Usage: python -m tests.kill_runs FOLDER CHECKOUT [--kills 100] [--seconds 2] [--seed 0] [OPTION OF baldro run ...]

Half of the kills hit the call alone, the others its commands too. After each, at most one command is alive; while one
is, the next call is refused and names its process; a command that had finished never runs again. A study that was
killed on its way to the end has the results of one that was not. FOLDER holds the data, if CHECKOUT is the framework.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

METHODS = ("NPO", "BalDRO_G")


def trial(folder: Path, checkout: Path, kills: int, seconds: float, seed: int, options: Sequence[str]) -> Counter[str]:
    """Kill calls at a random moment of their first `seconds`; return how often what was met, or raise AssertionError."""
    chance, met, finished = random.Random(seed), Counter[str](), dict[Path, int]()
    command = [sys.executable, "-m", "baldro_ext.tools.cli", "run", *METHODS, "--folder", str(folder)]
    command += ["--checkout", str(checkout), *options]
    clear(folder)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    expected = results(folder)
    clear(folder)
    while met["kills"] < kills:
        call = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        alone = chance.random() < 0.5
        try:
            call.wait(chance.random() * seconds)
        except subprocess.TimeoutExpired:
            os.kill(call.pid, signal.SIGKILL) if alone else os.killpg(call.pid, signal.SIGKILL)
            met["kills"] += 1
        said = call.communicate()[1]
        assert call.returncode in (0, -signal.SIGKILL), said
        for process in alive(folder):
            met["commands that outlived their call"] += 1
            again = subprocess.run(command, capture_output=True, text=True)
            if process in alive(folder):  # all the while
                assert again.returncode == 4, again
                assert f"process {process}" in again.stderr, again
                met["calls refused meanwhile"] += 1
                os.kill(process, signal.SIGKILL)
        assert len(alive(folder)) <= 1
        now = {
            note: note.stat().st_mtime_ns
            for note in folder.glob("logs/*.json")
            if '"finished": true' in note.read_text()
        }
        assert finished.items() <= now.items(), "a command that had finished was lost, or ran again"
        finished = now
        if call.returncode == 0:
            assert results(folder) == expected
            met["studies that came to their end"] += 1
            finished = {}
            clear(folder)
    while alive(folder):
        time.sleep(0.1)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert results(folder) == expected
    return met


def alive(folder: Path) -> list[int]:
    """Return the processes of the framework's scripts that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            here = (process / "cwd").resolve() == folder.resolve()
        except OSError:  # it has ended
            continue
        if here and any(re.search(rb"src/(train|eval)\.py$", word) for word in words[:3]):
            found.append(int(process.name))
    return found


def results(folder: Path) -> dict[str, str]:
    """Return digests of models and evaluations, and the records but for the time that they took."""
    found = {}
    for pattern in ("saves/**/model.safetensors", "saves/**/*_SUMMARY.json", "saves/**/*_EVAL.json"):
        for file in folder.glob(pattern):
            found[str(file.relative_to(folder))] = hashlib.sha256(file.read_bytes()).hexdigest()
    for file in folder.glob("saves/eval/*/study.json"):
        record = json.loads(file.read_text())
        found[str(file.relative_to(folder))] = json.dumps({**record, "training_seconds": None})
    return found


def clear(folder: Path) -> None:
    for name in ("saves", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=2.0, help="a call is killed within these")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    known, options = parser.parse_known_args()
    began = time.monotonic()
    met = trial(known.folder.absolute(), known.checkout.absolute(), known.kills, known.seconds, known.seed, options)
    print(", ".join(f"{count} {what}" for what, count in met.items()), "0 lost, 0 doubled", sep=", ")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
