"""Edits of the framework's files at the places that their structure shows; every other line stays as it is."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from baldro_ext.tools.upstream.errors import StructureError


def register(source: str, module: str, classes: Sequence[str]) -> str:
    """Import trainer classes in the framework's `trainer` package and register them, after the others.

    Args:
        source: `src/trainer/__init__.py`: imports from `trainer.unlearn` and calls of `_register_trainer`.
        module: The name of the new module in `trainer.unlearn`.
        classes: Trainers that it defines.
    """
    statements = ast.parse(source).body
    imports = [node for node in statements if isinstance(node, ast.ImportFrom) and _is_unlearning(node)]
    calls = [node for node in statements if _called(node) == "_register_trainer"]
    if not imports or not calls:
        raise StructureError(
            "src/trainer/__init__.py", "an import from trainer.unlearn and a call of _register_trainer"
        )
    lines = source.splitlines()
    last_call, last_import = calls[-1].end_lineno, imports[-1].end_lineno
    lines[last_call:last_call] = [f"_register_trainer({name})" for name in classes]
    lines[last_import:last_import] = [f"from trainer.unlearn.{module} import {', '.join(classes)}"]
    return "\n".join(lines) + "\n"


def signature_of(source: str, class_name: str, method: str) -> str:
    """Return the lines of a method's signature, from `def` to the line before its body, as they stand."""
    node = _method(source, class_name, method)
    return "\n".join(source.splitlines()[node.lineno - 1 : node.body[0].lineno - 1])


def with_signature(source: str, class_name: str, method: str, signature: str) -> str:
    """Return a module whose method has this signature instead of its own."""
    return source.replace(signature_of(source, class_name, method), signature)


def add_row(text: str, heading: str, cells: Sequence[str]) -> str:
    """Add a last row to the first Markdown table below a heading, its first cell as wide as that of the table's head.

    Args:
        text: A Markdown document.
        heading: A word or words of the heading.
        cells: The row.
    """
    lines = text.splitlines(keepends=True)
    headings = (number for number, line in enumerate(lines) if line.startswith("#") and heading in line)
    start = next(headings, len(lines))
    tables = (number for number in range(start, len(lines)) if lines[number].startswith("|"))
    first = next(tables, None)
    if first is None:
        raise StructureError("the document", f"a table below a heading with '{heading}'")
    end = next((number for number in range(first, len(lines)) if not lines[number].startswith("|")), len(lines))
    width = len(lines[first].split("|")[1]) - 2
    lines.insert(end, f"| {cells[0].ljust(width)} | {' | '.join(cells[1:])} |\n")
    return "".join(lines)


def extend_cell(text: str, label: str, item: str) -> str:
    """Add an item to the comma-separated second cell of the table row whose first cell has this label."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        cells = line.split("|")
        if len(cells) >= 4 and label in cells[1]:
            kept = cells[2].rstrip()
            cells[2] = f"{kept}, {item}{cells[2][len(kept) :]}"
            lines[number] = "|".join(cells)
            return "".join(lines)
    raise StructureError("the document", f"a table row labelled '{label}'")


def _is_unlearning(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith("trainer.unlearn.")


def _called(node: ast.stmt) -> str | None:
    """Return the name of the function that a statement calls, if that is all it does."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name):
        return node.value.func.id
    return None


def _method(source: str, class_name: str, method: str) -> ast.FunctionDef:
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == method:
                    return part
    raise StructureError("the module", f"a class {class_name} with a method {method}")
