"""The package that CONTRIBUTING.md shows, installed by pip, in the framework's own commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..documents import files_of
from .conftest import Framework
from .test_pipelines import PIPELINES

pytestmark = [pytest.mark.framework, pytest.mark.generations("G2")]

# A package of theirs that is not in order, too: it must trouble only those who use its name.
BROKEN = '\n[project.entry-points."baldro_ext.forget_losses"]\nBroken = "their_unlearning.broken:Broken"\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables with which Python finds the package."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shown = files_of("CONTRIBUTING.md")
    shown["pyproject.toml"] = shown["pyproject.toml"].replace(BROKEN.splitlines()[1], BROKEN.strip())
    shown["their_unlearning/broken.py"] = "import no_such_package"
    for name, content in shown.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(content)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", site, source], check=True)
    return {"PYTHONPATH": os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}


def test_its_loss_and_its_weighting_train(framework: Framework, installed: dict[str, str]) -> None:
    trainers = ("BalDRO_DV_MeanProbability", "Contamination")
    framework.train(
        "-m",
        f"trainer={','.join(trainers)}",
        "experiment=unlearn/tofu",
        "task_name=theirs_${hydra:runtime.choices.trainer}",
        "trainer.args.per_device_train_batch_size=4",
        "trainer.args.gradient_accumulation_steps=1",
        *PIPELINES["tofu"],
        env=installed,
    )
    for trainer in trainers:
        steps = framework.steps(f"theirs_{trainer}")
        assert len(steps) == 2
        assert (framework.saved(f"theirs_{trainer}") / "model.safetensors").exists()
    assert -1 <= framework.steps("theirs_BalDRO_DV_MeanProbability")[0]["forget_loss_mean"] <= 0
    # NPO's losses are all equal at the first step; then one of the four is the largest.
    largest = [step["largest_weight"] for step in framework.steps("theirs_Contamination")]
    assert largest == pytest.approx([0.25, 0.8 / 4 + 0.2])


def test_a_name_that_cannot_be_imported_ends_the_run_before_the_model_is_loaded(
    framework: Framework, installed: dict[str, str]
) -> None:
    command = ("trainer=BalDRO_G", "experiment=unlearn/tofu", "trainer.method_args.base=Broken")
    printed = framework.run(str(framework.checkout / "src" / "train.py"), *command, env=installed, ok=False)
    for words in ("Error in the settings", "their-unlearning 1.0", "no_such_package"):
        assert words in printed.splitlines()[-1]


def test_baldro_knows_its_names(framework: Framework, installed: dict[str, str], tmp_path: Path) -> None:
    baldro = ("-m", "baldro_ext.tools.cli")
    run = (*baldro, "run", "--checkout", str(framework.checkout), "--folder", str(tmp_path), "--dry-run")
    assert "trainer=Contamination" in framework.run(*run, "Contamination", env=installed)
    assert "did you mean Contamination?" in framework.run(*run, "Contaminatoin", env=installed, ok=False)

    environment = {**installed, "BALDRO_CACHE": str(tmp_path)}  # without checkouts, one of which would be started
    printed = framework.run(*baldro, "doctor", env=environment, ok=None)
    known, *problem = printed.split("from other packages")[1:]
    assert known.split("\n")[0].strip() == "Contamination, MeanProbability"
    assert "no_such_package" in "".join(problem)
