"""Rules of the house that a script can hold: names, sentences, state, and the size of the root."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT, modules

#: Names that were riddles, and words that meant several things. Each has a standard term now.
BANNED = frozenset(
    re.findall(
        r"\w+",
        """Hands letting_go doubt doubtful put_right owed Strangers Watched _hurry _instead DOOMED Ledger
        Attendant carrier Seat unwilling _heed _press _fill _roll _greet bury _bury _cannot_bury
        BURIAL Board mistrust Registrar hurry Cancels surrender want struck _strike _is_gone heed_losses
        Mandate Deposed _reign silent say_queued SAY end_or_request pursue forbid forbidden redeliver
        raise_fence enlist discharge Figures LOOK CHUNK MOST AGAIN LATE KEEP _tell _note""",
    )
)
#: Most words of a sentence in a docstring.
WORDS = 25
#: Most modules at the root of the app.
ROOT_MODULES = 10


def defined(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of all that a module defines: classes, functions, arguments, variables and attributes."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def sentences(text: str) -> Iterator[str]:
    """The sentences of a docstring. An item of a list is one; lines of a table, with columns, are none."""
    text = "\n".join(line for line in text.splitlines() if not re.search(r"\S {2,}\S", line))
    text = re.sub(r"``.*?``|`[^`]*`", "x", text, flags=re.DOTALL)
    text = re.sub(r"\n\s*\n|\n\s*[-*] |\n(?=\s+[\w, *]+: )", "\n\n", text)
    for part in text.split("\n\n"):
        yield from re.split(r"(?<=[.:;?!])\s+", " ".join(part.split()))


def long_sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line of the thing described, and each sentence of its docstring that is too long."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for sentence in sentences(ast.get_docstring(node) or ""):
                if len(re.findall(r"[\w’'-]+", sentence)) > WORDS:
                    yield getattr(node, "lineno", 1), sentence


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in modules("queue_app").values():
        if "migrations" not in path.parts:
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def test_no_name_is_one_that_was_given_up() -> None:
    found = [
        f"{path}:{line}: {name}" for path, tree in trees() for line, name in defined(tree) if name in BANNED
    ]
    assert not found, "\n".join(found)


def test_sentences_of_docstrings_are_short() -> None:
    found = [f"{path}:{line}: {text}" for path, tree in trees() for line, text in long_sentences(tree)]
    assert not found, f"more than {WORDS} words:\n" + "\n".join(found)


def test_only_the_settings_are_kept_in_a_global() -> None:
    found = [
        str(path)
        for path, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Global) and path != Path("queue_app/conf.py")
    ]
    assert not found


def test_the_root_of_the_app_is_small() -> None:
    found = sorted(path.name for path in (ROOT / "queue_app").glob("*.py"))
    assert len(found) <= ROOT_MODULES, found


@pytest.mark.parametrize(
    "code,names",
    [
        ("class Hands: ...", ["Hands"]),
        ("def f(carrier): x = 1", ["carrier"]),
        ("self.owed = LOOK = 1", ["LOOK", "owed"]),
        ("x.bury()", []),  # that of another library
    ],
)
def test_the_check_of_names_itself(code: str, names: list[str]) -> None:
    assert sorted(name for _, name in defined(ast.parse(code)) if name in BANNED) == names


@pytest.mark.parametrize(
    "text,count",
    [
        ("word " * 25 + ".", 0),
        ("word " * 26 + ".", 1),
        ("word " * 20 + ". " + "word " * 20 + ".", 0),
        ("Args:\n    a: " + "word " * 20 + ".\n    b: " + "word " * 20 + ".", 0),
        ("A list:\n\n* " + "word " * 20 + "\n* " + "word " * 26, 1),
    ],
)
def test_the_check_of_sentences_itself(text: str, count: int) -> None:
    tree = ast.parse(f'"""{text}"""')
    assert len(list(long_sentences(tree))) == count
