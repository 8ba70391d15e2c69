"""The real framework for the tests: a pinned checkout, a working folder with made data, its command line."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import transformers
from filelock import FileLock

from baldro_ext.tools import framework as checkouts
from baldro_ext.tools.workspace import make_tofu
from baldro_ext.tools.workspace.model import make_model

from .toys import make_arc_easy, make_muse, make_wmdp

MODEL = "models/tiny"
# What a small model on a CPU needs, appended to every training command.
TRAIN = (
    "+hardware=cpu",
    f"model.model_args.pretrained_model_name_or_path={MODEL}",
    f"model.tokenizer_args.pretrained_model_name_or_path={MODEL}",
    "trainer.args.eval_on_start=false",
    "trainer.args.eval_strategy=no",
    "trainer.args.do_eval=false",
    "trainer.args.report_to=none",
    "trainer.args.logging_steps=1",
)
EVAL = ("+hardware=cpu_eval", f"model.tokenizer_args.pretrained_model_name_or_path={MODEL}")


@dataclass(frozen=True)
class Framework:
    """One generation's command line, typed in a working folder."""

    name: str
    checkout: Path
    folder: Path

    def train(self, *overrides: str, common: tuple[str, ...] = TRAIN, env: dict[str, str] | None = None) -> str:
        """Run `python src/train.py`; return its output."""
        return self.run(str(self.checkout / "src" / "train.py"), *overrides, *common, env=env)

    def train_on(self, processes: int, *overrides: str) -> str:
        """Run `accelerate launch src/train.py` on several processes; return its output.

        The framework leaves its process group to the end of the process, where gloo now and then aborts a rank
        whose work is done; so the exit status says nothing, and the saved model all.
        """
        launch = f"-m accelerate.commands.launch --multi_gpu --num_processes {processes} --num_machines 1"
        precision = ("--mixed_precision", "no", "--dynamo_backend", "no")
        script = str(self.checkout / "src" / "train.py")
        return self.run(*launch.split(), *precision, script, *overrides, *TRAIN, ok=None)

    def evaluate(self, model: Path, *overrides: str) -> str:
        """Run `python src/eval.py` on a saved model; return its output."""
        path = f"model.model_args.pretrained_model_name_or_path={model}"
        return self.run(str(self.checkout / "src" / "eval.py"), *overrides, path, *EVAL)

    def script(
        self, name: str, *arguments: str, processes: int | None = None, env: dict[str, str] | None = None
    ) -> str:
        """Run a script of this folder that uses `in_process.make_trainer`; on several processes, as `train_on`."""
        place = (str(self.checkout), self.name, MODEL)
        script = str(Path(__file__).with_name(name))
        if processes is None:
            return self.run(script, *place, *arguments, env=env)
        launch = ("-m", "torch.distributed.run", "--nproc_per_node", str(processes))
        return self.run(*launch, script, *place, *arguments, env=env, ok=None)

    def run(
        self, *command: str, env: dict[str, str] | None = None, ok: bool | None = True, timeout: float | None = None
    ) -> str:
        """Run Python in the working folder; return both streams, or fail with them if it did not end as expected."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if ok is not None and (done.returncode == 0) != ok:
            pytest.fail(f"exit code {done.returncode} of {' '.join(command)}\n{done.stdout[-6000:]}", pytrace=False)
        return done.stdout

    def composes(self, *commands: str) -> int:
        """Compose the configurations of the framework's commands; return their number."""
        script = Path(__file__).with_name("compose_commands.py")
        done = subprocess.run(
            [sys.executable, script, self.checkout],
            cwd=self.folder,
            input="\n".join(commands),
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            pytest.fail(done.stderr[-3000:], pytrace=False)
        return done.stdout.count("composed ")

    def saved(self, task: str) -> Path:
        """Return the folder of a trained model."""
        return self.folder / "saves" / "unlearn" / task

    def steps(self, task: str) -> list[dict[str, Any]]:
        """Return the training logs of a run, one per logging step."""
        history = json.loads((self.saved(task) / "trainer_state.json").read_text())["log_history"]
        return [entry for entry in history if "loss" in entry]


@pytest.fixture(scope="session")
def framework(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Framework:
    """The generation named by BALDRO_GENERATION, G2 by default; skips, loudly or fatally, where it is missing."""
    generation = checkouts.generation(os.environ.get("BALDRO_GENERATION", checkouts.PRIMARY))
    try:
        checkout = checkouts.checkout(generation)
    except checkouts.CheckoutMissingError as error:
        if os.environ.get("BALDRO_REQUIRE_FRAMEWORK"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error).splitlines()[0])
    if transformers.__version__ != generation.transformers:
        pytest.fail(
            f"{generation.name} pins transformers {generation.transformers}, but this environment has "
            f"{transformers.__version__}: run make test-framework GENERATION={generation.name}",
            pytrace=False,
        )
    # Shared by the workers of pytest-xdist, each of which has a base folder of its own.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = shared / "workspace"
    with FileLock(shared / "workspace.lock"):
        make_tofu(folder)
        make_muse(folder)
        make_wmdp(folder)
        make_arc_easy(folder)
        make_model(folder, "tiny")
    return Framework(generation.name, checkout, folder)
