"""Settings shared by all tests, and the lines that say aloud when the framework or a browser is missing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.config import Config
from _pytest.nodes import Item
from _pytest.terminal import TerminalReporter
from filelock import FileLock
from hypothesis import settings

from baldro_ext.tools.framework import PRIMARY

# Machines are noisy: a test must not fail because one example took long.
settings.register_profile("baldro", deadline=None, derandomize=True)
settings.load_profile("baldro")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Put the environment back after every test: TrainingArguments write their precision into it, for all that follow."""
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `baldro workspace tofu toy` makes."""
    # Shared by the workers of pytest-xdist, each of which has a base folder of its own.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with FileLock(shared / "toy.lock"):
        command = [sys.executable, "-m", "baldro_ext.tools.cli", "workspace", "tofu", str(shared / "toy")]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return shared / "toy"


def pytest_collection_modifyitems(config: Config, items: list[Item]) -> None:
    """Leave out what the generation under test cannot do."""
    generation = os.environ.get("BALDRO_GENERATION", PRIMARY)
    able = {
        item: generation in marker.args if (marker := item.get_closest_marker("generations")) else True
        for item in items
    }
    config.hook.pytest_deselected(items=[item for item in items if not able[item]])
    items[:] = [item for item in items if able[item]]


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print one loud line per thing for want of which tests were skipped."""
    for marker, missing, what, fix in (
        ("framework", "A GENERATION OF OPEN-UNLEARNING", "tests with the real framework", "baldro framework install"),
        ("cuda", "A CUDA GPU", "tests on a GPU", "make test on a machine that has one"),
        ("slurm", "SLURM", "tests on a cluster", "apt-get install slurm-wlm munge"),
        ("browser", "CHROMIUM", "tests of the report in a browser", "apt-get install chromium chromium-driver"),
    ):
        skipped = [report for report in terminalreporter.stats.get("skipped", []) if marker in report.keywords]
        if skipped:
            line = f"{missing} IS MISSING: {len(skipped)} {what} were skipped. What helps: {fix}"
            terminalreporter.write_line(line, red=True, bold=True)
