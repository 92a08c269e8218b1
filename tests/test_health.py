"""Health: what each part says when it is there, and when it is taken away."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.test import Client

from bench.runtime.servers import RedisServer
from queue_app.models import Worker
from tests.support.factories import WorkerFactory

GOOD = {"status": "ok", "database": "ok", "redis": "ok", "migrations": "ok", "workers": "ok"}


def ask(path: str = "/health/ready/") -> tuple[int, dict[str, Any]]:
    answer = Client().get(path)
    assert answer["Content-Type"] == "application/json" and "no-store" in answer["Cache-Control"]
    parts = answer.json()
    if path == "/health/ready/":
        assert parts.pop("maintenance") in ("ok", "failing")
    return answer.status_code, parts


@pytest.mark.django_db
def test_ready_when_all_is_there(django_assert_max_num_queries: Any) -> None:
    WorkerFactory()
    assert ask() == (200, GOOD)
    with django_assert_max_num_queries(2):  # migrations that were found applied are not read again
        assert ask() == (200, GOOD)


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["silent", "stuck", "stopped"])
def test_a_worker_that_cannot_claim_does_not_count(status: str) -> None:
    WorkerFactory(status=status)
    assert ask() == (503, GOOD | {"status": "failing", "workers": "failing"})
    WorkerFactory()
    assert ask() == (200, GOOD)


@pytest.mark.django_db
def test_redis_away(redis_process: RedisServer) -> None:
    WorkerFactory()
    redis_process.kill()
    assert ask() == (503, GOOD | {"status": "failing", "redis": "failing"})
    redis_process.start()
    assert ask() == (200, GOOD)


@pytest.mark.django_db
def test_a_frozen_redis_does_not_hold_the_answer_up(redis_process: RedisServer) -> None:
    WorkerFactory()
    redis_process.pause()
    assert ask() == (503, GOOD | {"status": "failing", "redis": "failing"})


@pytest.mark.django_db(transaction=True)
def test_migrations_missing() -> None:
    WorkerFactory()
    call_command("migrate", "queue_app", "zero", verbosity=0)
    try:
        parts = GOOD | {"status": "failing", "migrations": "failing", "workers": "failing"}
        assert ask() == (503, parts)
    finally:
        call_command("migrate", verbosity=0)
    assert ask() == (503, GOOD | {"status": "failing", "workers": "failing"})


@pytest.mark.django_db(transaction=True)
def test_database_away(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    WorkerFactory()
    connection.close()
    nowhere = "/nowhere/db.sqlite3" if connection.vendor == "sqlite" else "gone"
    with monkeypatch.context() as patch:
        patch.setitem(connections["default"].settings_dict, "NAME", nowhere)
        code, parts = ask()
    connection.close()
    assert (code, parts["database"], parts["redis"]) == (503, "failing", "ok")
    assert set(parts.values()) == {"ok", "failing"}, "no reason, no path, no host"
    assert "Health: database is failing" in caplog.text


@pytest.mark.django_db
def test_live_asks_nobody(redis_process: RedisServer, django_assert_num_queries: Any) -> None:
    redis_process.kill()
    with django_assert_num_queries(0):
        assert ask("/health/live/") == (200, {"status": "ok"})


@pytest.mark.django_db
def test_only_reading() -> None:
    assert Client(enforce_csrf_checks=True).post("/health/ready/").status_code in (403, 405)
    assert Client().delete("/health/live/").status_code == 405
    assert not Worker.objects.exists()
