"""A sweep by SLURM: two jobs of the framework's train.py on a real cluster of one node."""

import json
import os
from pathlib import Path

import pytest

from baldro_ext.open_unlearning.sweep import FILE

from . import slurm
from .conftest import TRAIN, Framework

pytestmark = [pytest.mark.framework, pytest.mark.slurm, pytest.mark.generations("G2")]


def test_a_sweep_trains_its_jobs_on_a_cluster(framework: Framework, tmp_path: Path) -> None:
    if missing := slurm.missing():
        if os.environ.get("BALDRO_REQUIRE_SLURM"):
            pytest.fail(f"{', '.join(missing)} not found: apt-get install slurm-wlm munge", pytrace=False)
        pytest.skip("no SLURM")
    train = str(framework.checkout / "src" / "train.py")
    command = (
        *("-m", "+sweep=jobs", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=10"),
        *("hydra.launcher.cpus_per_task=1", "hydra.launcher.array_parallelism=2", "hydra.launcher.partition=long"),
        *("trainer=BalDRO_DV", "trainer.args.seed=5,6", "experiment=unlearn/tofu", "+eval/balance=tofu"),
        *("+trainer.args.max_steps=1", "trainer.args.per_device_train_batch_size=4"),
        "task_name=slurm_${trainer.args.seed}",
    )
    with slurm.cluster(tmp_path / "cluster") as environment:
        framework.run(
            train, *command, *TRAIN, env=environment, timeout=600
        )  # of a lost job submitit would wait for ever
    for seed in (5, 6):
        folder = framework.saved(f"slurm_{seed}")
        job = json.loads((folder / FILE).read_text())
        assert (job["status"], job["error"]) == ("done", None)
        assert f"trainer.args.seed={seed}" in job["overrides"]
        assert (folder / "model.safetensors").exists()
    assert len(list(framework.saved(".submitit").glob("*_*/*_log.out"))) == 2, "the two tasks of SLURM's array"
