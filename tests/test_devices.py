"""On another device, with and without float64, every kind of method trains as on the CPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version

from .cases import METHODS

HAS_BACKENDS_IN_PYTHON = Version(torch.__version__) >= Version("2.13")
needs_backends = pytest.mark.skipif(not HAS_BACKENDS_IN_PYTHON, reason="a device written in Python needs torch 2.13")


def report_of(*arguments: str, folder: Path | None = None) -> dict[str, Any]:
    """What tests/devices.py prints, in a process of its own, since a device cannot be taken away again."""
    command = [sys.executable, "-m", "tests.devices", *arguments]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder or root, env=env, capture_output=True, text=True)
    found = re.search(r"^report: (.*)$", done.stdout, re.MULTILINE)
    assert found, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(found[1])  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=["other", "other-without-float64"])
def report(request: pytest.FixtureRequest) -> dict[str, Any]:
    return report_of(request.param)


@needs_backends
@pytest.mark.parametrize("method", METHODS)
def test_a_second_device_trains_as_the_cpu(report: dict[str, Any], method: str) -> None:
    assert_alike(report[method], 1e-6)


@needs_backends
@pytest.mark.parametrize("method", METHODS)
def test_the_host_waits_for_the_device_once_per_micro_batch(report: dict[str, Any], method: str) -> None:
    assert report[method]["waits"] == 1


@pytest.mark.cuda
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_trains_as_the_cpu(method: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    if not _on_gpu:
        _on_gpu.update(report_of("cuda"))
    assert_alike(_on_gpu[method], 1e-4)


_on_gpu: dict[str, Any] = {}


def assert_alike(found: dict[str, Any], tolerance: float) -> None:
    assert "error" not in found, found["error"]
    assert found["losses_there"] == pytest.approx(found["losses"], abs=max(tolerance, 2e-4))  # logged with 4 digits
    assert found["difference"] < tolerance
    assert found["moved"] > 100 * tolerance, "nothing was trained"
