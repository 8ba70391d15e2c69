"""One file out of two: a module written against this package, with the package's own code in place of its imports."""

from __future__ import annotations

import ast
import sys
from importlib import resources

PACKAGE = "baldro_ext"


def bundle(source: str) -> str:
    """Return a module that no longer needs this package.

    Each `from baldro_ext.x import a, b` gives way to the definitions of a and b, as they stand in x, comments and all.
    They stand before the module's own definitions, in the order they have in x; what they import joins its imports.

    Args:
        source: A module whose imports come first, at its top level.

    Raises:
        ValueError: A name that is imported from the package is no function of that module, or needs a name of it
            that is not imported too.
    """
    statements, lines = ast.parse(source).body, source.splitlines()
    imports = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = [node for node in imports if isinstance(node, ast.ImportFrom) and _is_ours(node)]
    head = {ast.unparse(node) for node in imports if node not in ours}
    functions: list[str] = []
    for node in ours:
        needed, found = _functions(str(node.module), [alias.name for alias in node.names])
        head |= needed
        functions += found
    first = next(node for node in statements if isinstance(node, ast.FunctionDef | ast.ClassDef)).lineno - 1
    constants = "\n".join(lines[imports[-1].end_lineno : first]).strip("\n")
    own = "\n".join(lines[first:])
    return "\n\n\n".join([f"{_sorted(head)}\n\n{constants}", *functions, own]) + "\n"


def _functions(module: str, names: list[str]) -> tuple[set[str], list[str]]:
    """Return what the functions of a module of ours import, and their source."""
    name = module.removeprefix(f"{PACKAGE}.")
    source = resources.files(PACKAGE).joinpath(f"{name}.py").read_text(encoding="utf-8")
    statements = ast.parse(source).body
    defined = {node.name: node for node in statements if isinstance(node, ast.FunctionDef)}
    if missing := [name for name in names if name not in defined]:
        raise ValueError(f"{module} defines no function {', '.join(missing)}")
    used = {part.id for name in names for part in ast.walk(defined[name]) if isinstance(part, ast.Name)}
    imported = {
        (alias.asname or alias.name): ast.unparse(_with(node, alias))
        for node in statements
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", None) != "__future__"
        for alias in node.names
    }
    if strangers := sorted((used & defined.keys()) - set(names)):
        raise ValueError(f"{', '.join(names)} of {module} call {', '.join(strangers)}: import these too")
    found = [ast.get_source_segment(source, node) or "" for name, node in defined.items() if name in names]
    return {imported[name] for name in used & imported.keys()}, found


def _with(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> ast.stmt:
    """Return an import of one name only."""
    if isinstance(node, ast.Import):
        return ast.Import([alias])
    return ast.ImportFrom(node.module, [alias], node.level)


def _is_ours(node: ast.ImportFrom) -> bool:
    return (node.module or "").startswith(f"{PACKAGE}.")


def _sorted(imports: set[str]) -> str:
    """Return import statements in three paragraphs: standard library, installed packages, the framework's own."""

    def paragraph(statement: str) -> int:
        root = statement.split()[1].split(".")[0]
        return 0 if root in sys.stdlib_module_names else 2 if root == "trainer" else 1

    blocks = [[line for line in imports if paragraph(line) == number] for number in range(3)]
    order = [sorted(block, key=lambda line: (line.startswith("from"), line)) for block in blocks]
    return "\n\n".join("\n".join(block) for block in order if block)
