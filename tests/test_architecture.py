"""The rules of the house, held by reading the source: who may import whom, and who may do what."""

import ast
import importlib
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "baldro_ext"
METHOD = sorted(path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "tools"))

MAY_IMPORT = {
    "errors": set(),
    "suggest": {"errors"},
    "balance": set(),
    "registry": {"errors"},
    "weightings": {"registry"},
    "answers": set(),
    "logprobs": set(),
    "forward": {"answers", "logprobs"},
    "compat": set(),
    "budget": set(),
    "losses": {"answers", "registry"},
    "state": set(),
    "adversary": {"state", "weightings"},
    "robust_loss": {"adversary", "answers", "losses", "weightings"},
    "checkpoint": {"data", "errors", "state"},
    "config": {"answers", "losses", "registry", "suggest", "weightings"},
    "data": {"answers"},
    "encoding": {"answers"},
    "arguments": {"compat"},
    "before": {"compat"},
    "step_mean": {"compat"},
    "report": {"adversary", "budget"},
    "passes": {
        *("adversary", "answers", "before", "budget", "config", "data", "forward", "losses", "report"),
        *("robust_loss", "state", "step_mean"),
    },
    "mixin": {
        *("adversary", "arguments", "before", "budget", "checkpoint", "compat", "config", "data", "forward"),
        *("passes", "report", "robust_loss", "step_mean"),
    },
    "trainer": {"compat", "data", "mixin", "passes"},
}
"""The method: each module, and the others of the package that it may import."""


def imports(path: Path) -> set[str]:
    """The names of this package's modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "baldro_ext":
            inside = (node.module or "").split(".")[1:]
            found |= {inside[0]} if inside else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("baldro_ext.")}
    return found


def libraries(path: Path) -> set[str]:
    """The installed packages that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"baldro_ext"}


def required(*extras: str) -> set[str]:
    """What can be imported after `pip install baldro_ext[extras]` because pyproject.toml names it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = (project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras))
    names = {re.split(r"[<>=]", requirement)[0].lower() for named in lists for requirement in named}
    return {{"hydra-core": "hydra", "pyyaml": "yaml"}.get(name, name) for name in names}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def files(name: str) -> list[Path]:
    """The file of a module, or those of a package."""
    return sorted((PACKAGE / name).glob("*.py")) or [PACKAGE / f"{name}.py"]


def imports_of(name: str) -> set[str]:
    return {other for path in files(name) for other in imports(path)} - {name}


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_module_of_the_method_imports_only_what_it_may(name: str) -> None:
    assert imports_of(name) <= MAY_IMPORT[name]


def test_the_method_reads_downward() -> None:
    tuple(TopologicalSorter({name: imports_of(name) for name in MAY_IMPORT}).static_order())


def test_all_modules_of_the_method_are_here() -> None:
    modules = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in METHOD}
    assert modules == {*MAY_IMPORT, "__init__", "open_unlearning"}


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("open_unlearning/*.py")), ids=name_of)
def test_the_host_imports_the_method_and_no_tool(path: Path) -> None:
    assert imports(path) <= {*MAY_IMPORT, "open_unlearning"}


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_the_method_needs_no_extra(path: Path) -> None:
    frameworks_own = {"trainer", "evals", "model", "rouge_score"} if path.parent.name == "open_unlearning" else set()
    asked_for = {"peft"} if path.name == "adapters.py" else set()  # imported only with +peft
    assert libraries(path) <= required() | frameworks_own | asked_for


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("tools/**/*.py")), ids=name_of)
def test_pyproject_names_what_a_tool_imports(path: Path) -> None:
    assert libraries(path) <= required("tools", "peft", "pretrained") | {"trainer"}  # the framework's own


@pytest.mark.parametrize("name", sorted(MAY_IMPORT.keys() - {"adversary", "weightings"}))
def test_only_the_adversary_brings_numbers_to_the_cpu(name: str) -> None:
    """`weightings` does it too, for people who call it alone, with numbers from any device."""
    moves = re.compile(r"\.cpu\(\)|\.double\(\)|\.item\(\)|[( ]\"cpu\"[,)]")
    assert not [path for path in files(name) if moves.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_only_compat_asks_for_versions(path: Path) -> None:
    asks = re.search(r"packaging|(torch|transformers|peft|accelerate)\.__version__", path.read_text(encoding="utf-8"))
    assert not asks or path.name == "compat.py"


@pytest.mark.parametrize("path", METHOD, ids=name_of)
def test_a_file_of_the_method_fits_a_readers_patience(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= 300


@pytest.mark.parametrize(
    "name", ["baldro_ext", "baldro_ext.tools.compare", "baldro_ext.tools.run", "baldro_ext.tools.workspace"]
)
def test_a_package_has_what_it_offers(name: str) -> None:
    package = importlib.import_module(name)
    assert [it for it in package.__all__ if not hasattr(package, it)] == []
