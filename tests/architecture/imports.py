"""Who imports whom in the product, read from the source: imports inside functions and dotted paths in strings too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent

_DOTTED = re.compile(r"[a-z_]\w*(\.\w+)+")


class Import(NamedTuple):
    """One module's use of another.

    Attributes:
        source, target: dotted names of modules.
        line: in the source's file.
        top: whether importing the source imports the target.
    """

    source: str
    target: str
    line: int
    top: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def modules(*packages: str) -> dict[str, Path]:
    """The modules of these top-level packages: dotted name → file."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, source: str, known: set[str], *, is_package: bool = False) -> list[Import]:
    """What a module's source imports of the `known` modules; what only type checkers read is left out."""
    found: list[Import] = []

    def note(target: str, node: ast.AST, top: bool) -> None:
        if target in known and target != name:
            found.append(Import(name, target, node.lineno, top))  # type: ignore[attr-defined]

    for node, top in _walk(ast.parse(source), True):
        if isinstance(node, ast.Import):
            for alias in node.names:
                note(alias.name, node, top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            note(base, node, top)
            for alias in node.names:
                note(f"{base}.{alias.name}", node, top)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
            # A dotted path for import_string or import_module: the module itself, or something in it.
            path = node.value
            while path and path not in known:
                path = path.rpartition(".")[0]
            if path.count("."):  # a package's bare name is a logger or an app label
                note(path, node, False)
    return found


def _walk(node: ast.AST, top: bool) -> Iterator[tuple[ast.AST, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for other in child.orelse:
                yield other, top
                yield from _walk(other, top)
            continue
        yield child, top
        yield from _walk(
            child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        )


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def all_imports(*packages: str) -> list[Import]:
    """All uses of each other among the modules of these packages."""
    files = modules(*packages)
    known = set(files)
    return [
        found
        for name, path in files.items()
        for found in imports_of(name, path.read_text(), known, is_package=path.name == "__init__.py")
    ]
