"""Settings shared by all tests, and the line that says aloud when the framework is missing."""

from __future__ import annotations

import os

from _pytest.config import Config
from _pytest.nodes import Item
from _pytest.terminal import TerminalReporter
from hypothesis import settings

from baldro_ext.framework import PRIMARY

# Machines are noisy: a test must not fail because one example took long.
settings.register_profile("baldro", deadline=None, derandomize=True)
settings.load_profile("baldro")


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
