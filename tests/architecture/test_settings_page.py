"""docs/settings.md tells every setting, with the default and the bounds that the code has."""

from __future__ import annotations

import pytest

from queue_app import conf
from tests.architecture import settings_page
from tests.architecture.settings_page import GROUPS, PAGE, renewed, table


def test_every_setting_is_in_one_table() -> None:
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(conf.FIELDS)
    assert settings_page.headings(PAGE.read_text()) == list(GROUPS)


def test_the_tables_are_what_the_code_says() -> None:
    page = PAGE.read_text()
    assert page == renewed(page), "run: python -m tests.architecture.settings_page"


def test_a_table_shows_default_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "| `CLAIM_MAX` | `500` | " in table(["CLAIM_MAX"])
    assert "(at least 1, at most 2,000) |" in table(["CLAIM_MAX"])
    assert "| `KEEP_SUCCEEDED` | `604_800.0` (7 days) |" in table(["KEEP_SUCCEEDED"])
    monkeypatch.setitem(GROUPS, "Retention", ["LEASE"])
    page = PAGE.read_text()
    assert renewed(page) != page
