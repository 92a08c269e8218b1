"""The search index of jobs on PostgreSQL: what is new in it, and what is gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, connections

from queue_app import clock
from queue_app.models import Job, summaries
from tests.support.factories import id_at
from tests.support.marks import committed, on_postgresql_alone, on_sqlite_alone
from tests.support.plans import read_for

ALL = 100_000


@pytest.fixture
def by_hand(transactional_db: None) -> Iterator[None]:
    """No vacuum comes by itself, which would make summaries too."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE queue_app_job SET (autovacuum_enabled = off)")
        yield
        cursor.execute("ALTER TABLE queue_app_job RESET (autovacuum_enabled)")


def make_jobs(task: str, count: int = 4_000) -> None:
    """Jobs on a hundred pages of the table."""
    at = clock.now() - timedelta(days=1)
    made = [
        Job(id=id_at(at + timedelta(seconds=n)), task=task, payload="x" * 100, state="queued", enqueued_at=at)
        for n in range(count)
    ]
    Job.objects.bulk_create(made)


@on_postgresql_alone
@committed
def test_new_rows_are_summarized(by_hand: None) -> None:
    make_jobs("shop.a")
    assert read_for("shop.absent") > 80, "without a summary each page counts as a match"
    assert summaries.refresh(connection, again=0) > 20
    assert read_for("shop.absent") < 20
    assert summaries.refresh(connection, again=0) == 0, "there is nothing new"


@on_postgresql_alone
@committed
def test_what_is_gone_is_forgotten(by_hand: None) -> None:
    make_jobs("shop.old")
    summaries.refresh(connection)
    Job.objects.exclude(
        pk=Job.objects.order_by("-pk")[0].pk
    ).delete()  # the last keeps the table as long as it is
    with connection.cursor() as cursor:
        cursor.execute("VACUUM queue_app_job")
    make_jobs("shop.new", 3_000)
    assert read_for("shop.old") > 60, "the summaries know it still"
    assert summaries.refresh(connection, again=ALL) > 20
    assert read_for("shop.old") < 20


@on_postgresql_alone
@committed
def test_a_vacuum_goes_first(by_hand: None) -> None:
    make_jobs("shop.a", 200)
    release, locked = threading.Event(), threading.Event()

    def vacuum() -> None:
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "BEGIN; LOCK TABLE queue_app_job IN SHARE UPDATE EXCLUSIVE MODE"
            )  # what a vacuum holds
            locked.set()
            release.wait(30)
            cursor.execute("COMMIT")
        connections.close_all()

    other = threading.Thread(target=vacuum)
    other.start()
    try:
        assert locked.wait(30)
        assert summaries.refresh(connection) == 0
    finally:
        release.set()
        other.join()
    assert summaries.refresh(connection) > 0


@on_postgresql_alone
@committed
def test_only_its_owner_may() -> None:
    make_jobs("shop.a", 200)
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE ROLE clerk; GRANT SELECT, INSERT, UPDATE, DELETE ON queue_app_job TO clerk; SET ROLE clerk"
        )
        try:
            assert summaries.refresh(connection) == 0
        finally:
            cursor.execute("RESET ROLE; DROP OWNED BY clerk; DROP ROLE clerk")


@on_sqlite_alone
@pytest.mark.django_db
def test_elsewhere_there_is_nothing_to_do() -> None:
    assert summaries.refresh(connection) == 0
