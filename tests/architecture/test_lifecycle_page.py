"""docs/lifecycle.md shows the states and transitions that the code has, no more and no fewer."""

from __future__ import annotations

import re

import pytest

from queue_app.domain.states import TRANSITIONS, AttemptState, DeadReason, JobState
from tests.architecture.imports import ROOT

PAGE = ROOT / "docs" / "lifecycle.md"
Arrows = set[tuple[str, str]]


def diagram(page: str) -> str:
    """The Mermaid source on the page."""
    found = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert found, "there is no diagram"
    return found[1]


def groups(source: str) -> dict[str, list[str]]:
    """The boxes of a diagram, with the states in them."""
    return {name: body.split() for name, body in re.findall(r"state (\w+) \{(.*?)\}", source, re.DOTALL)}


def arrows(pairs: list[tuple[str, str]], boxes: dict[str, list[str]]) -> Arrows:
    """From state to state; an arrow from a box is one from each state in it."""
    return {(state, new) for old, new in pairs for state in boxes.get(old, [old])}


def drawn(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^\s*(\w+) --> (\w+)\s*$", diagram(page), re.MULTILINE)


def told(page: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| `(\w+)` → `(\w+)` \| \w", page, re.MULTILINE)


def listed(page: str, heading: str) -> list[str]:
    """The words in the first column of the table with this heading."""
    table = page.partition(f"| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


LEGAL: Arrows = {(old.value, new.value) for old, targets in TRANSITIONS.items() for new in targets}


def test_the_diagram_is_the_table_of_the_code() -> None:
    page = PAGE.read_text()
    assert arrows(drawn(page), groups(diagram(page))) == LEGAL


def test_every_arrow_is_explained_once() -> None:
    page = PAGE.read_text()
    assert sorted(told(page)) == sorted(drawn(page))


@pytest.mark.parametrize(
    "heading,enum", [("State", JobState), ("State of an attempt", AttemptState), ("Reason", DeadReason)]
)
def test_every_word_is_explained(heading: str, enum: type[JobState]) -> None:
    assert listed(PAGE.read_text(), heading) == enum.values


def test_a_missing_arrow_is_seen() -> None:
    page = PAGE.read_text().replace("    failed --> queued\n", "").replace("claimable --> expired", "")
    missing = LEGAL - arrows(drawn(page), groups(diagram(page)))
    assert missing == {("failed", "queued")} | {
        (state, "expired") for state in ("scheduled", "queued", "retrying")
    }
