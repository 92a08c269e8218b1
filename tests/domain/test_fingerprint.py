"""Fingerprints: what is the same, and what is not."""

from __future__ import annotations

import traceback

import pytest

from queue_app.domain.fingerprint import LENGTH, fingerprint


def raised(depth: int, value: str) -> str:
    """The traceback of an error raised below `depth` calls."""

    def boom(left: int) -> None:
        if left:
            boom(left - 1)
        else:
            raise ValueError(value)

    try:
        boom(depth)
    except ValueError:
        return traceback.format_exc()
    raise AssertionError


def test_the_place_counts_not_the_words_nor_the_way_there() -> None:
    first = fingerprint("a.task", "builtins.ValueError", "order 17", raised(0, "order 17"))
    second = fingerprint("a.task", "builtins.ValueError", "order 18", raised(3, "order 18"))
    assert first == second
    assert len(first) == LENGTH and set(first) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("task", "error_class", "text"),
    [
        ("b.task", "builtins.ValueError", "x"),
        ("a.task", "builtins.KeyError", "x"),
        ("a.task", "builtins.ValueError", "y"),
    ],
)
def test_task_class_and_words_without_a_traceback_count(task: str, error_class: str, text: str) -> None:
    assert fingerprint(task, error_class, text, "") != fingerprint("a.task", "builtins.ValueError", "x", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("killed by SIGKILL, peak memory 812.5 MB", "killed by SIGKILL, peak memory 9 MB"),
        ("no row 'a'", "no row 'bc'"),
        ("<Order object at 0x7f00aa>", "<Order object at 0x7f00bb>"),
        ("job 0199a5c0-0000-7000-8000-000000000001", "job 0199a5c0-1111-7000-8000-00000000ffff"),
    ],
)
def test_what_varies_does_not_count(one: str, other: str) -> None:
    assert fingerprint("a", "b", one, "") == fingerprint("a", "b", other, "")


def test_causes_of_death_differ() -> None:
    causes = [
        "killed by SIGKILL, peak memory 9 MB",
        "killed by SIGSEGV, peak memory 9 MB",
        "exit code 3",
        "exit code 4",
    ]
    assert len({fingerprint("a", "b", cause, "") for cause in causes}) == 4
