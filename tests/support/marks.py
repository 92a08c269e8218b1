"""Marks that many test files share."""

from __future__ import annotations

import os

import pytest

#: Rows are committed, as other processes must see them. Our own tables alone are emptied afterwards, and nobody asks
#: Django to fill its own again: that takes half the time.
committed = pytest.mark.django_db(transaction=True, available_apps=["queue_app", "tests.app"])

#: The database has no part in the result, and one leg is enough: both at once take a quarter of an hour as it is.
on_postgresql_alone = pytest.mark.skipif(
    os.environ.get("TEST_DATABASE") != "postgresql", reason="the PostgreSQL leg runs it"
)
#: Likewise, and the other leg has run it.
on_sqlite_alone = pytest.mark.skipif(
    os.environ.get("TEST_DATABASE") == "postgresql", reason="the SQLite leg runs it"
)
