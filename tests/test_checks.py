"""`manage.py check --database` and starting workers say so while nobody has been given any right."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError

from queue_app.management.starting import warn_of_rights
from queue_app.queries import rights

pytestmark = pytest.mark.django_db


def found(databases: Any = ("default",)) -> list[str]:
    return [one.id for one in run_checks(databases=databases) if one.id == "queue_app.W008"]


def test_it_is_said_until_a_group_has_a_right() -> None:
    assert found() == ["queue_app.W008"]
    group = Group.objects.create(name="Operators")
    group.permissions.add(Permission.objects.get(codename="add_job"))
    assert found() == ["queue_app.W008"], "this allows nothing"
    group.permissions.add(Permission.objects.get(codename="operate_queue"))
    assert found() == []


def test_no_database_is_asked_unless_that_is_wished(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert found(None) == []


def test_the_command_says_what_to_do() -> None:
    errors = io.StringIO()
    call_command("check", databases=["default"], stderr=errors)
    assert "No group has any right of queue_app" in errors.getvalue()
    assert "docs/rights.md" in errors.getvalue()


def test_workers_say_so_at_their_start(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_rights()
    assert rights.NO_RIGHTS in caplog.text
    Group.objects.create(name="Operators").permissions.add(Permission.objects.get(codename="view_job"))
    caplog.clear()
    warn_of_rights()
    assert not caplog.text


def test_a_database_that_cannot_be_asked_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise DatabaseError

    monkeypatch.setattr(Group.objects, "using", fail)
    assert not rights.no_group_has_rights() and found() == []
