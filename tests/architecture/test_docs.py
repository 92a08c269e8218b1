"""The pages of documentation name files, code, tests and headings that exist."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture.docs_names import anchors, codes, wrong_links, wrong_name, wrong_path, wrong_test
from tests.architecture.imports import ROOT

DOCS = ROOT / "docs"
#: Pages about the code.
INSIDE = [DOCS / f"{name}.md" for name in ("internals", "recovery", "maintenance")]
#: The page that names a test for each promise.
GUARANTEES = DOCS / "guarantees.md"
ALL = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def all_wrong(page: Path, *checks: Callable[[str], str | None]) -> list[str]:
    return [said for code in codes(page.read_text()) for check in checks if (said := check(code))]


@pytest.mark.parametrize("page", INSIDE, ids=lambda page: page.stem)
def test_files_and_names_of_the_code_exist(page: Path) -> None:
    wrong = all_wrong(page, wrong_path, wrong_name)
    assert not wrong, "\n".join(wrong)


def test_the_tests_of_the_promises_exist() -> None:
    wrong = all_wrong(GUARANTEES, wrong_path, wrong_test)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = wrong_links(page)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "code,wrong",
    [
        ("worker/child/runner.py", False),
        ("worker/child/strangers.py", True),
        ("dispatch/lua/claim.lua", False),
        ("claim.lua", False),
        ("clam.lua", True),
        ("models/sql/*_scans.py", False),
        ("models/bulk/*_scans.py", True),
        ("worker/keeper/", False),
        ("worker/registrar/", True),
        ("architecture/test_docs.py::test_links_lead_somewhere", False),
        ("architecture/test_docs.py::test_links_lead_nowhere", True),
        ("LEASE", False),
        ("redis://127.0.0.1:6379/0", False),
    ],
)
def test_a_wrong_path_is_seen(code: str, wrong: bool) -> None:
    assert bool(wrong_path(code)) is wrong


@pytest.mark.parametrize(
    "code,wrong",
    [
        ("settle.record", False),
        ("settle.recrod", True),
        ("lifecycle/settle.record(outcomes)", False),
        ("lifecycle/setle.record", True),
        ("queue_app.signals.operated", False),
        ("queue_app.signals.operatd", True),
        ("Job.suspect", False),
        ("Job.innocent", True),
        ("transaction.on_commit", False),  # not ours
        ("worker/child/runner.py", False),
    ],
)
def test_a_wrong_name_is_seen(code: str, wrong: bool) -> None:
    assert bool(wrong_name(code)) is wrong


def test_a_wrong_test_is_seen() -> None:
    assert wrong_test("test_a_wrong_test_is_seen") is None
    assert wrong_test("test_nothing_" + "of_this_name")


def test_a_wrong_link_is_seen() -> None:
    page = (
        "# One & two\n\n[a](#one--two) [b](#three) [c](settings.md#stores) [d](no.md) [e](https://x.org/y)\n"
    )
    assert anchors(page) == {"one--two"}
    assert wrong_links(DOCS / "made_up.md", page) == [
        "#three: there is no such heading",
        "no.md: there is no such file",
    ]
