"""Settings shared by all tests, and the line that says aloud when the framework is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.config import Config
from _pytest.nodes import Item
from _pytest.terminal import TerminalReporter
from filelock import FileLock
from hypothesis import settings

from baldro_ext.framework import PRIMARY

# Machines are noisy: a test must not fail because one example took long.
settings.register_profile("baldro", deadline=None, derandomize=True)
settings.load_profile("baldro")


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `baldro workspace tofu toy` makes."""
    # Shared by the workers of pytest-xdist, each of which has a base folder of its own.
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    with FileLock(shared / "toy.lock"):
        command = [sys.executable, "-m", "baldro_ext.cli", "workspace", "tofu", str(shared / "toy")]
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
    """Print one loud line if tests were skipped for want of the framework."""
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "framework" in report.keywords]
    if skipped:
        terminalreporter.write_line(
            f"OPEN-UNLEARNING IS MISSING: {len(skipped)} tests with the real framework were skipped. "
            "Install it with: baldro framework install",
            red=True,
            bold=True,
        )
