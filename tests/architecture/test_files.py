"""Small files: one that grows past the limit has a noun in it that wants a file of its own."""

from __future__ import annotations

import re

from tests.architecture.imports import ROOT, modules

#: Lines of a file, by package.
LIMITS = {"queue_app": 300, "dashboard": 300, "jobqueue_project": 300, "bench": 300, "tests": 400}


def test_no_file_is_too_long() -> None:
    lengths = {
        path.relative_to(ROOT): len(path.read_text().splitlines())
        for package in LIMITS
        for pattern in ("*.py", "*.lua")
        for path in (ROOT / package).rglob(pattern)
        if "migrations" not in path.parts
    }
    assert {path.parts[0] for path in lengths} == set(LIMITS)  # the folders were found
    assert not {str(path): n for path, n in lengths.items() if n > LIMITS[path.parts[0]]}


def test_scripts_have_a_header_that_says_what_goes_in_and_out() -> None:
    scripts = sorted((ROOT / "queue_app" / "dispatch" / "lua").glob("*.lua"))
    assert scripts
    for path in scripts:
        header = path.read_text().partition("]]")[0]
        assert header.startswith(f"--[[ {path.stem}: "), path
        for word in ("\nKEYS  1 ", "\nARGV  1 ", "\nOut   "):
            assert word in header, f"{path.name}: its header has no line {word.strip()!r}"


def test_no_process_shares_a_queue_of_multiprocessing() -> None:
    """A child that dies with such a queue's lock in its hands stops all the others."""
    wrong = re.compile(r"^\s*(?:from|import) multiprocessing\b", re.MULTILINE)
    assert not [path for path in modules("queue_app").values() if wrong.search(path.read_text())]
