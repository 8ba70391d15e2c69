"""The pull request's YAML files, made from the package's own: the same defaults and comments, fewer keys."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from baldro_ext.open_unlearning.registration import config_directory

VARIANTS = ("DV", "G")
BASES = ("NPO", "SimNPO", "SatImp")
"""The forget losses of the paper."""

_KEY = re.compile(r"  (\w+): .+")


def configurations(trainers: str) -> dict[str, str]:
    """Return the text of `configs/trainer/<name>.yaml` by name, for the trainers of a module.

    Args:
        trainers: The source of a module that defines `BalDRO` and a subclass `BalDRO_<variant>` for each variant. The
            arguments of their constructors are the keys that go into the files.
    """
    return {
        name(variant, base): _configuration(variant, base, _arguments(trainers, ("BalDRO", f"BalDRO_{variant}")))
        for base in BASES
        for variant in VARIANTS
    }


def name(variant: str, base: str) -> str:
    """Return what follows `trainer=`."""
    return f"BalDRO_{variant}" + ("" if base == "NPO" else f"_{base}")


def _configuration(variant: str, base: str, accepted: set[str]) -> str:
    lines = _method_args(f"baldro/{variant}") | _method_args(name(variant, base))
    kept = [line for key, line in lines.items() if key in accepted]
    return "\n".join(["defaults:", f"  - {base}", "", f"handler: BalDRO_{variant}", "method_args:", *kept]) + "\n"


def _method_args(file: str) -> dict[str, str]:
    """Return the lines below `method_args:` by key, each with its comment."""
    text = (config_directory() / "trainer" / f"{file}.yaml").read_text(encoding="utf-8")
    _, _, block = text.partition("\nmethod_args:\n")
    return {match[1]: match[0] for line in block.splitlines() if (match := _KEY.fullmatch(line))}


def _arguments(source: str, classes: Iterable[str]) -> set[str]:
    """Return the names of all arguments of some classes' constructors."""
    return {
        argument.arg
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name in classes
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        for argument in method.args.args
    }
