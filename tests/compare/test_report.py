"""The report in a real browser, and the command that writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from typer.testing import CliRunner

from baldro_ext.tools.cli import app
from tests.compare.folders import Workspace
from tests.compare.test_plots import ALL

run = CliRunner().invoke


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    result = run(app, ["compare", str(finished), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.rstrip().endswith(f"Report: {out / 'report.html'}")
    return out / "report.html"


@pytest.fixture
def opened(browser: webdriver.Chrome, report: Path) -> Callable[[int], webdriver.Chrome]:
    def at(width: int) -> webdriver.Chrome:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(report.as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach(details => details.open = true)")
        return browser

    return at


def test_the_command_writes_tables_pictures_and_a_report(report: Path) -> None:
    pictures = {f"{name}.{kind}" for name in ALL for kind in ("png", "pdf")}
    tables = {f"comparison.{kind}" for kind in ("md", "csv", "tex", "json")}
    assert {path.name for path in report.parent.iterdir()} == pictures | tables | {"report.html"}
    assert all(path.read_bytes().startswith(b"%PDF") for path in report.parent.glob("*.pdf"))


def test_the_same_runs_give_the_same_files(report: Path, finished: Path, tmp_path: Path) -> None:
    run(app, ["compare", str(finished), "--out", str(tmp_path / "out")])
    for path in report.parent.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_every_figure_is_shown(opened: Callable[[int], webdriver.Chrome], width: int) -> None:
    page = opened(width)
    script = (
        "return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth, i.getBoundingClientRect().width])"
    )
    images = page.execute_script(script)
    assert len(images) == len(ALL)
    for alt, natural, shown in images:
        assert natural > 0, alt
        assert 300 < shown <= width, alt


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(opened: Callable[[int], webdriver.Chrome], width: int) -> None:
    page = opened(width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    # Wide tables scroll within a frame of their own.
    script = """return [...document.body.querySelectorAll('*')]
        .filter(e => !e.closest('table') && (e.getBoundingClientRect().right > arguments[0] + 0.5
                 || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth && getComputedStyle(e).overflowX === 'visible')))
        .map(e => e.tagName + ' ' + e.className + ' ' + e.textContent.slice(0, 60))"""
    assert page.execute_script(script, width) == []


@pytest.mark.browser
def test_the_finding_comes_first_and_text_is_large_enough(opened: Callable[[int], webdriver.Chrome]) -> None:
    page = opened(390)
    assert page.execute_script("return document.querySelector('h1').textContent").startswith(
        "Against NPO, BalDRO_DV lowers"
    )
    assert page.execute_script("return document.querySelector('h1').getBoundingClientRect().top") < 120
    script = "return Math.min(...[...document.querySelectorAll('p, li, td, th, figcaption')].map(e => parseFloat(getComputedStyle(e).fontSize)))"
    assert page.execute_script(script) >= 13


@pytest.mark.browser
def test_the_page_asks_nobody_for_anything(opened: Callable[[int], webdriver.Chrome]) -> None:
    page = opened(1280)
    names = page.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
    assert [name for name in names if not name.startswith("data:")] == []


def test_the_report_names_no_other_file(report: Path) -> None:
    class Links(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [f"{tag} {value}" for name, value in attrs if name in ("src", "href") and value]

    links = Links()
    links.found = []
    links.feed(report.read_text())
    assert len(links.found) == len(ALL)
    assert all(link.startswith("img data:image/png;base64,") for link in links.found)
    assert not re.search(r"url\(|@import|<script|<link", report.read_text())


def test_the_report_says_where_its_numbers_come_from(report: Path) -> None:
    text = report.read_text()
    for words in (
        "python src/train.py trainer=BalDRO_DV",
        "method_args.base",
        "models/target",
        "matplotlib",
        "forget10",
    ):
        assert words in text


def test_names_from_outside_do_not_become_markup(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("<b>x", "<script>alert(1)</script>")
    run(app, ["compare", str(workspace.folder), "--out", str(tmp_path / "out")])
    assert "<script>" not in (tmp_path / "out/report.html").read_text()


def test_missing_pictures_are_explained_in_the_report(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a")
    run(app, ["compare", str(workspace.folder), "--out", str(tmp_path / "out")])
    text = (tmp_path / "out/report.html").read_text()
    assert "Not drawn: Forgetting, sample by sample" in text
    assert "eval_strategy=epoch" in text


def test_json_is_all_that_is_printed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a", seed=4)
    result = run(app, ["compare", str(workspace.folder), "--json", "--out", str(tmp_path / "out")])
    content: dict[str, Any] = json.loads(result.stdout)
    assert content["methods"][0]["runs"][0]["seed"] == 4
    assert {**content, "files": ...} == {**json.loads((tmp_path / "out/comparison.json").read_text()), "files": ...}


def test_programs_get_every_number(report: Path) -> None:
    content = json.loads((report.parent / "comparison.json").read_text())
    (ours,) = [method for method in content["methods"] if method["method"] == "BalDRO_DV"]
    assert (ours["baseline"], ours["seeds"]) == ("NPO", [0, 1, 2])
    assert ours["metrics"]["forget_Q_A_Prob.worst"]["better_seeds"] == 3
    assert len(ours["runs"]) == 3


def test_mixed_runs_end_with_4_and_write_nothing(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a")
    workspace.run("b", "BalDRO_DV", split="forget05")
    arguments = ["compare", str(workspace.folder / "saves/unlearn"), "--out", str(tmp_path / "out")]
    result = run(app, arguments)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "forget split: forget10 in unlearn/a; forget05 in unlearn/b" in result.stderr
    assert not (tmp_path / "out").exists()
    assert run(app, [*arguments, "--allow-mixed"]).exit_code == 0
    assert "only because of --allow-mixed" in (tmp_path / "out/report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere"], 2),
        (["{runs}", "--baseline", "x"], 2),
        (["{runs}", "--worst-share", "2"], 2),
        (["{runs}", "--before", "{runs}"], 2),
    ],
)
def test_wrong_usage_ends_with_2_and_a_message(
    workspace: Workspace, tmp_path: Path, arguments: list[str], code: int
) -> None:
    workspace.run("a")
    workspace.run("b", "BalDRO_DV")
    runs = str(workspace.folder / "saves/unlearn")
    filled = [argument.replace("{runs}", runs) for argument in arguments]
    result = run(app, ["compare", *filled, "--out", str(tmp_path / "out")])
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")


def test_a_broken_file_ends_with_1_and_its_name(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.run("a") / "TOFU_EVAL.json"
    path.write_text("{")
    result = run(app, ["compare", str(workspace.folder), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {path} is not valid JSON")


def test_a_file_in_the_way_ends_with_4_and_stays(workspace: Workspace, tmp_path: Path) -> None:
    workspace.run("a")
    mine = tmp_path / "report.html"
    mine.write_text("mine")
    result = run(app, ["compare", str(workspace.folder), "--out", str(tmp_path)])
    assert result.exit_code == 4
    assert mine.read_text() == "mine"
