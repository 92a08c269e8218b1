"""Which errors of a database are an outage, and what is said of them."""

from __future__ import annotations

import pytest
from django.db import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
)

from queue_app.lifecycle.store_health import explain, is_outage

REFUSING = [InternalError, ProgrammingError, NotSupportedError, DatabaseError]


@pytest.mark.parametrize("kind", [OperationalError, InterfaceError, Error, *REFUSING])
def test_what_is_about_the_database_is_an_outage(kind: type[Error]) -> None:
    assert is_outage(kind("no"))


@pytest.mark.parametrize("error", [DataError("no"), IntegrityError("no"), ValueError("no"), None])
def test_what_is_about_a_value_is_none(error: Exception | None) -> None:
    assert not is_outage(error)


@pytest.mark.parametrize("kind", REFUSING)
def test_a_database_that_answers_is_said_to_refuse(kind: type[Error]) -> None:
    found = explain(kind('column "x" does not exist\nLINE 1: SELECT x\n               ^\n'))
    assert found == 'it refuses writes: column "x" does not exist'


def test_a_database_that_is_away_says_why_by_itself() -> None:
    assert explain(OperationalError("connection refused\n")) == "connection refused"
    assert explain(OperationalError()) == "OperationalError"
