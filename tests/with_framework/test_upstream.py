"""The pull request in the framework: it runs where this package is not, and trains to the same weights."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from baldro_ext.tools.upstream import PullRequest

from .bare_environment import bare_environment, without_ours
from .conftest import MODEL, Framework

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]

# What a small model on a CPU needs of both train.py and eval.py; the framework's own defaults are for GPUs.
CPU = (
    "++model.model_args.attn_implementation=sdpa",
    "++model.model_args.torch_dtype=float32",
    "++model.model_args.device_map=null",
    f"++model.tokenizer_args.pretrained_model_name_or_path={MODEL}",
    "++trainer.args.use_cpu=true",
    "++trainer.args.bf16=false",
    "++trainer.args.bf16_full_eval=false",
    "++trainer.args.optim=adamw_torch",
    "++trainer.args.warmup_epochs=null",
    "++trainer.args.report_to=none",
    "++trainer.args.do_eval=false",
)


@dataclass(frozen=True)
class Merged:
    """A copy of the checkout with the pull request in it, and a Python that knows nothing of this package."""

    folder: Path
    python: Path

    def run(self, *command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
        """Run a command; return its output, or fail with it."""
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        variables = without_ours({**os.environ, "PATH": path, **(env or {})})
        output = subprocess.PIPE
        done = subprocess.run(command, cwd=cwd, env=variables, stdout=output, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            pytest.fail(f"exit code {done.returncode} of {' '.join(command)}\n{done.stdout[-6000:]}", pytrace=False)
        return done.stdout


@pytest.fixture(scope="module")
def merged(framework: Framework, tmp_path_factory: pytest.TempPathFactory) -> Merged:
    folder = tmp_path_factory.mktemp("merged")
    shutil.copytree(framework.checkout, folder / "checkout", symlinks=True)
    PullRequest.for_checkout(folder / "checkout").write()
    return Merged(folder / "checkout", bare_environment(folder / "environment"))


def weights(folder: Path) -> torch.Tensor:
    """All parameters of a saved model, as one vector."""
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


def test_it_trains_to_the_weights_of_this_package_without_it(framework: Framework, merged: Merged) -> None:
    trainers = ("BalDRO_DV", "BalDRO_G_SimNPO", "BalDRO_DV_SatImp")
    # 10 samples: one full optimizer step per epoch.
    common = (
        f"trainer={','.join(trainers)}",
        "trainer.args.num_train_epochs=3",
        "trainer.args.learning_rate=1e-3",
        "trainer.args.per_device_train_batch_size=5",
        "trainer.args.gradient_accumulation_steps=2",
        "trainer.args.seed=3",
        # One retain sample, for the framework draws them in another way.
        "data.retain.TOFU_QA_retain.args.hf_args.split='train[:1]'",
    )
    framework.train("-m", *common, "experiment=unlearn/tofu", "task_name=ours_${hydra:runtime.choices.trainer}")
    merged.run(
        str(merged.python),
        str(merged.folder / "src" / "train.py"),
        "-m",
        "--config-name=unlearn.yaml",
        "experiment=unlearn/tofu/default",
        *common,
        "task_name=theirs_${hydra:runtime.choices.trainer}",
        f"model.model_args.pretrained_model_name_or_path={MODEL}",
        *CPU,
        "trainer.args.eval_strategy=no",
        "trainer.args.eval_on_start=false",
        cwd=framework.folder,
    )
    before = weights(framework.folder / MODEL)
    for trainer in trainers:
        ours, theirs = (weights(framework.saved(f"{side}_{trainer}")) for side in ("ours", "theirs"))
        assert (ours - before).abs().max() > 1e-3, "it did not train"
        # As a whole: Adam makes much of rounding where a single gradient is nearly 0.
        assert (theirs - ours).norm() < 3e-4 * (ours - before).norm()


def test_its_losses_are_those_of_the_built_in_trainers_where_weights_are_even(merged: Merged, tmp_path: Path) -> None:
    script = Path(__file__).with_name("merged_losses.py")
    output = merged.run(str(merged.python), str(script), str(merged.folder), cwd=tmp_path)
    assert output.count("with even weights is") == 4
    assert "answerless samples are left out" in output
    assert re.findall(r"refused: (\w+)=", output) == ["dv_beta", "top_fraction", "hardness"]
    assert "losses can be imported" in output


def test_its_script_trains_and_evaluates(framework: Framework, merged: Merged) -> None:
    for data in ("locuslab", "models"):
        (merged.folder / data).symlink_to(framework.folder / data)
    grid = {"TRAINERS": "BalDRO_G", "SPLITS": "forget10", "LRS": "1e-3", "TARGET": MODEL}
    script = "community/methods/BalDRO/run.sh"
    merged.run("bash", script, *CPU, "retain_logs_path=null", cwd=merged.folder, env=grid)
    (unlearned,) = (merged.folder / "saves" / "unlearn").iterdir()
    assert unlearned.name == "tofu_Llama-3.2-1B-Instruct_forget10_BalDRO_G_lr1e-3_seed0"
    summary = json.loads((unlearned / "evals" / "TOFU_SUMMARY.json").read_text())
    assert {"forget_Q_A_Prob", "extraction_strength", "model_utility"} <= summary.keys()


def test_the_framework_finds_its_quality_sufficient(merged: Merged) -> None:
    """As `make quality`, with the ruff that is installed, on what the pull request touches."""
    touched = ("src/trainer/__init__.py", "src/trainer/unlearn/baldro.py")
    for command in (("check", "--select=E4,E7,E9,F"), ("format", "--check")):
        merged.run(sys.executable, "-m", "ruff", *command, "--isolated", *touched, cwd=merged.folder)
