"""The questions of docs/internals.md: each answer is a file, and something that is defined in it."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.imports import ROOT

PAGE = (ROOT / "docs" / "internals.md").read_text()
ANSWERS = sorted(set(re.findall(r"`([\w/]+\.py):([\w.]+)`", PAGE)))


def is_defined(code: str, name: str) -> bool:
    """Whether a class, function or method of this dotted name is defined in the code of a module."""
    body: list[ast.stmt] = ast.parse(code).body
    for part in name.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = next((node for node in body if isinstance(node, kinds) and node.name == part), None)
        if found is None:
            return False
        body = found.body
    return True


@pytest.mark.parametrize("path,name", ANSWERS)
def test_an_answer_leads_somewhere(path: str, name: str) -> None:
    assert is_defined((ROOT / "queue_app" / path).read_text(), name)


def test_there_are_enough() -> None:
    section = PAGE.partition("## Where is it?")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| .*\? \|", section, re.MULTILINE)) >= 20


@pytest.mark.parametrize(
    "name,found", [("A", True), ("A.b", True), ("c", True), ("A.c", False), ("d", False)]
)
def test_the_check_itself(name: str, found: bool) -> None:
    assert is_defined("class A:\n    def b(self): ...\ndef c(): ...\nd = 1", name) is found
