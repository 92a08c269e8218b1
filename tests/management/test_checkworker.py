"""`manage.py checkworker` and the statuses of workers, which are the same wherever they are asked for."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from queue_app import clock
from queue_app.models import Worker
from queue_app.models.worker import CLAIM_PATIENCE, WORKER_STATUSES
from tests.support.factories import WorkerFactory

pytestmark = pytest.mark.django_db


def here(**values: Any) -> Worker:
    return WorkerFactory(**({"hostname": socket.gethostname(), "pid": os.getpid()} | values))


def check(*arguments: str) -> str:
    out = StringIO()
    call_command("checkworker", *arguments, stdout=out)
    return out.getvalue()


def test_healthy() -> None:
    here()
    assert check().startswith(f"healthy: 1 worker on host {socket.gethostname()!r}, able to claim 0 s ago")


def test_nobody_here() -> None:
    WorkerFactory()
    with pytest.raises(CommandError, match="There is no worker on host"):
        check()
    assert "healthy" in check("--host", Worker.objects.get().hostname)


@pytest.mark.parametrize("status,text", [("stuck", "could not claim lately"), ("silent", "no sign of life")])
def test_one_of_two_is_not(status: str, text: str) -> None:
    here()
    bad = here(status=status, pid=os.getppid())
    with pytest.raises(CommandError, match=text) as caught:
        check()
    assert str(bad.pk) in str(caught.value) and caught.value.returncode == 1


def test_what_was_killed_in_an_earlier_life_of_the_container_does_not_count() -> None:
    here(status="silent", started_at=clock.now() - timedelta(hours=3))  # the same process id
    here(status="silent", pid=2**22 + 1)  # above the largest that there may be
    here()
    assert check().startswith("healthy: 1 worker")


def test_one_by_its_id() -> None:
    good, bad = WorkerFactory(), WorkerFactory(status="stopped")
    assert "healthy: 1 worker with the id" in check("--worker", str(good.pk))
    with pytest.raises(CommandError, match="has stopped"):
        check("--worker", str(bad.pk))
    with pytest.raises(CommandError, match="--worker is 'x'; use the id"):
        check("--worker", "x")


def test_every_status_is_the_same_in_both_words(api: Any, pages: Any) -> None:
    made = {status: {WorkerFactory(status=status).pk} for status in WORKER_STATUSES}
    young = WorkerFactory(last_claim_at=None, started_at=clock.now())
    never = WorkerFactory(last_claim_at=None, started_at=clock.now() - timedelta(hours=1))
    made["alive"].add(young.pk)
    made["stuck"].add(never.pk)
    for status, expected in made.items():
        assert set(Worker.objects.with_status(status).values_list("pk", flat=True)) == expected
        assert {worker.pk for worker in Worker.objects.all() if worker.status == status} == expected
        answer = api.get(f"/api/v1/workers/?status={status}").json()["results"]
        assert {(line["id"], line["status"]) for line in answer} == {(str(pk), status) for pk in expected}
        page = pages.get(f"/admin/queue_app/worker/?status={status}").content.decode()
        shown = {pk for pks in made.values() for pk in pks if f"/admin/queue_app/worker/{pk}/change/" in page}
        assert shown == expected


def test_a_short_lease_does_not_make_an_idle_worker_stuck(settings: Any) -> None:
    """It waits on its bell for up to five seconds, and is well."""
    settings.QUEUE_APP = settings.QUEUE_APP | {"LEASE": 1.0}
    row = WorkerFactory(last_claim_at=clock.now() - timedelta(seconds=CLAIM_PATIENCE - 3))
    assert row.status == "alive"
