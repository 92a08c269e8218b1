"""Names in the documentation: which files, names of the code and links a page mentions, and whether they exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.architecture.imports import ROOT, modules

#: Folders that a path on a page may begin in. A bare file name may be anywhere below the first.
BASES = (ROOT / "queue_app", ROOT, ROOT / "tests")

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: `worker/child/`, `dispatch/lua/claim.lua`, `models/sql/*_scans.py`; a test may follow: `x/test_y.py::test_z`.
_PATH = re.compile(r"(?P<path>[\w.*-]+(/[\w.*-]+)*(/|\.(py|lua|md|toml|yml|txt)))(::(?P<test>\w+))?")
#: `settle.record`, `dispatch/connection.take`, `LeaderTerm.check`, `registry.look_up(name)`.
_NAME = re.compile(r"(?P<name>\w+([./]\w+)*\.\w+)(\(.*\))?")


def prose(page: str) -> str:
    """A page without its blocks of code and diagrams."""
    return _FENCED.sub("", page)


def codes(page: str) -> list[str]:
    """What stands in backticks in the text of a page."""
    return _CODE.findall(prose(page))


def wrong_path(code: str) -> str | None:
    """What is wrong with a path in backticks; None if it is right, or no path."""
    found = _PATH.fullmatch(code)
    if found is None or "://" in code:
        return None
    path, test = found["path"], found["test"]
    files = list(_files(path))
    if not files:
        return f"{code}: there is no such file or folder"
    if test and not any(test in _tests_of(file) for file in files):
        return f"{code}: the file has no such test"
    return None


def _files(path: str) -> Iterator[Path]:
    for base in BASES:
        for file in base.glob(path.rstrip("/")):
            if file.is_dir() or not path.endswith("/"):
                yield file
    if "/" not in path:
        yield from BASES[0].rglob(path)


@cache
def _tests_of(path: Path) -> frozenset[str]:
    return frozenset(re.findall(r"def (test_\w+)", path.read_text()))


def wrong_test(code: str) -> str | None:
    """What is wrong with the bare name of a test in backticks."""
    if re.fullmatch(r"test_\w+", code) and not any(
        code in _tests_of(path) for path in (ROOT / "tests").rglob("test_*.py")
    ):
        return f"{code}: there is no such test"
    return None


def wrong_name(code: str) -> str | None:
    """What is wrong with a dotted name in backticks; None if it is right, or not of queue_app."""
    found = _NAME.fullmatch(code)
    if found is None or _PATH.fullmatch(code):
        return None
    parts = re.split(r"[./]", found["name"])
    if parts[0] == "queue_app":
        parts = parts[1:]
    for length in range(len(parts) - 1, 0, -1):
        files = _modules_ending(tuple(parts[:length]))
        if not files:
            continue
        rest = parts[length:]
        if any(_has(_tree(file), rest) for file in files):
            return None
        return f"{code}: no module {'.'.join(parts[:length])} has {'.'.join(rest)}"
    if "/" in found["name"]:
        return f"{code}: there is no such module"
    classes = _classes().get(parts[0])
    if classes and not any(_has(node, parts[1:]) for node in classes):
        return f"{code}: no class {parts[0]} has {'.'.join(parts[1:])}"
    return None


@cache
def _modules_ending(parts: tuple[str, ...]) -> list[Path]:
    return [
        path for name, path in modules("queue_app").items() if tuple(name.split(".")[-len(parts) :]) == parts
    ]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for path in modules("queue_app").values():
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


def _has(scope: ast.Module | ast.ClassDef, names: list[str]) -> bool:
    """Whether a module or class defines the first name, and what that is defines the rest."""
    first, *rest = names
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == first:
            return not rest or (isinstance(node, ast.ClassDef) and _has(node, rest))
        if isinstance(node, ast.Import | ast.ImportFrom) and any(
            (alias.asname or alias.name) == first for alias in node.names
        ):
            return True
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        for target in targets:
            elements = target.elts if isinstance(target, ast.Tuple) else [target]
            if any(isinstance(one, ast.Name) and one.id == first for one in elements):
                return True
    # attributes that methods set
    return isinstance(scope, ast.ClassDef) and any(
        isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr == first
        for node in ast.walk(scope)
    )


def wrong_links(page: Path, text: str | None = None) -> list[str]:
    """What is wrong with the relative links of a page.

    Args:
        text: of the page, if it is not what its file has.
    """
    text = page.read_text() if text is None else text
    wrong = []
    for link in _LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if target != page and not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(text if target == page else target.read_text()):
            wrong.append(f"{link}: there is no such heading")
    return wrong


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    anchors = set()
    for heading in _HEADING.findall(prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        anchors.add(f"{slug}-{count}" if count else slug)
    return anchors
