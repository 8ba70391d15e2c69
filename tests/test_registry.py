"""The names of other packages: real entry points, in folders on Python's path."""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from baldro_ext.config import Settings
from baldro_ext.losses import FORGET_LOSSES, NPO
from baldro_ext.registry import ExtensionError, config_folders
from baldro_ext.weightings import VARIANTS, ChiSquare

from .documents import files_of

Add = Callable[..., str]
"""Puts a package with these entry points on the path and returns the name of its module."""
_numbers = itertools.count()  # a module that was imported once would be found again


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    def add(source: str, losses: str = "", weightings: str = "", name: str = "theirs") -> str:
        module = f"{name}{next(_numbers)}"
        folder, info = tmp_path / module / module, tmp_path / module / f"{name}-1.0.dist-info"
        (folder / "configs").mkdir(parents=True)
        (folder / "__init__.py").write_text(source)
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        groups = {"forget_losses": losses, "weightings": weightings}
        lines = [f"[baldro_ext.{group}]\n{point} = {module}:{point}" for group, point in groups.items() if point]
        (info / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path / module)
        return module

    return add


@pytest.fixture
def module(add: Add) -> str:
    return add(files_of("CONTRIBUTING.md")["their_unlearning/__init__.py"], "MeanProbability", "Contamination")


def test_a_package_is_listed_without_being_imported(module: str) -> None:
    assert "MeanProbability" in FORGET_LOSSES
    assert [*VARIANTS][-1] == "Contamination"
    assert len(VARIANTS) == len(VARIANTS.data) + 1
    assert module in [folder.parent.name for folder in config_folders()]
    assert Settings.parse("BalDRO_G", {}).loss == NPO()
    assert module not in sys.modules
    assert VARIANTS["Contamination"] is sys.modules[module].Contamination


@pytest.mark.usefixtures("module")
def test_its_settings_are_settings() -> None:
    settings = Settings.parse("Contamination", {"base": "MeanProbability", "power": "2", "contamination": 0.3})
    assert (settings.loss, settings.weighting) == (
        FORGET_LOSSES["MeanProbability"](power=2.0),  # type: ignore[call-arg]
        VARIANTS["Contamination"](contamination=0.3),  # type: ignore[call-arg]
    )
    assert settings.identity["contamination"] == "0.3"


@pytest.mark.parametrize(
    ("variant", "arguments", "named"),
    [
        ("Contaminatoin", {}, ["did you mean Contamination?"]),
        ("BalDRO_G", {"base": "MeanProbabilty"}, ["did you mean MeanProbability?"]),
        ("BalDRO_G", {"contamination": 0.3}, ["setting of Contamination", "top_fraction"]),
        ("BalDRO_G", {"power": 0.3}, ["argument of MeanProbability", "base=NPO"]),
        ("Contamination", {"contamination": "much"}, ["contamination='much'"]),
        ("BalDRO_G", {"base": "SimNPO", "unit": "token"}, ["MeanProbability"]),
    ],
)
@pytest.mark.usefixtures("module")
def test_its_names_are_known(variant: str, arguments: dict[str, object], named: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the words follow
        Settings.parse(variant, arguments)
    assert [words for words in named if words not in str(error.value)] == []


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import no_such_package", ["no_such_package"]),
        ("", ["has no attribute 'Theirs'"]),
        ("1 / 0", ["ZeroDivisionError"]),
        ("Theirs = 3", ["extends ForgetLoss"]),
        ("class Theirs: pass", ["extends ForgetLoss"]),
        ("from baldro_ext.losses import TokenAveraged as Theirs", ["abstract methods"]),
    ],
)
def test_what_cannot_be_used_troubles_only_those_who_name_it(add: Add, source: str, named: list[str]) -> None:
    add(source, losses="Theirs")
    assert Settings.parse("BalDRO_G", {"base": "SimNPO"}).base == "SimNPO"
    with pytest.raises(ValueError, match="did you mean top_fraction"):
        Settings.parse("BalDRO_G", {"top_fracton": 0.5})
    with pytest.raises(ExtensionError) as error:
        Settings.parse("BalDRO_G", {"base": "Theirs"})
    assert [words for words in ("theirs 1.0", "uninstall", *named) if words not in str(error.value)] == []


def test_a_name_of_two_packages_is_refused_and_ours_cannot_be_taken(add: Add) -> None:
    for name in ("first", "second"):
        add("1 / 0", losses="Theirs", weightings="BalDRO_Chi2", name=name)
    with pytest.raises(ExtensionError, match=r"Theirs is declared by first 1.0 and second 1.0: uninstall all but one"):
        Settings.parse("BalDRO_G", {"base": "Theirs"})
    assert VARIANTS["BalDRO_Chi2"] is ChiSquare


def test_settings_of_one_name_are_refused(add: Add) -> None:
    weighting = """
from dataclasses import dataclass
from baldro_ext.weightings import TopGroup
@dataclass(frozen=True)
class Theirs(TopGroup):
    beta: float = 1.0
    steep: bool = False
"""
    add(weighting, weightings="Theirs")
    assert Settings.parse("Theirs", {"base": "SatImp", "steep": True, "beta": 2}).identity["beta"] == "2.0"
    with pytest.raises(ValueError, match=r"of Theirs with base=NPO are named beta: rename"):
        Settings.parse("Theirs", {"base": "NPO"})
