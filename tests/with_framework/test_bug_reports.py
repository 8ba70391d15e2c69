"""The bug reports in docs/bugs: each still happens as it says, in the generation under test."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Framework

pytestmark = pytest.mark.framework

REPORTS = sorted((Path(__file__).parents[2] / "docs" / "bugs").glob("*.md"))


@pytest.fixture(scope="module")
def printed(framework: Framework, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each reproduction prints, in a folder that looks like the checkout and may be written to."""
    folder = tmp_path_factory.mktemp("reports")
    for name in ("src", "configs"):
        (folder / name).symlink_to(framework.checkout / name)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("bug_reports.py")), *map(str, REPORTS)],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    outputs: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return outputs


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.stem)
def test_report(framework: Framework, printed: dict[str, list[str]], report: Path) -> None:
    """A failure here may be good news: the framework was mended, and the report has to go."""
    rows = re.findall(rf"^\| {framework.name}, .+? \| (.+) \|$", report.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 1, "the report quotes no output, or several, for this generation"
    quoted = re.findall("`(.+?)`", rows[0])
    assert printed[report.stem][-len(quoted) :] == quoted
