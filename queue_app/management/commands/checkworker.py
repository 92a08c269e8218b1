"""`manage.py checkworker`: whether the workers of this host are healthy, for container health checks."""

from __future__ import annotations

import socket
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from queue_app import clock
from queue_app.management.starting import check_stores
from queue_app.models import Worker
from queue_app.models.sql import write_alias
from queue_app.worker.forking import is_alive

#: What a status means, for people.
MEANING = {
    "stuck": "could not claim lately",
    "silent": "has given no sign of life for a lease",
    "stopped": "has stopped",
}


class Command(BaseCommand):
    help = (
        "Exit with 0 if every worker that runs on this host is healthy: it lives, and could claim recently. Else,"
        " or if there is none, or a store cannot be reached, exit with 1 and say why."
    )
    requires_system_checks: list[str] = []  # it runs often: nothing but what it is for

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", help="the workers of this host (default: where this command runs)")
        parser.add_argument("--worker", help="only the worker of this id")

    def handle(self, *args: Any, **options: Any) -> None:
        check_stores()
        here = socket.gethostname()
        host = options["host"] or here
        rows = Worker.objects.using(write_alias()).defer("tasks").order_by("-pk")
        if options["worker"] is not None:
            found = list(rows.filter(pk=_worker_id(options["worker"])))
            where = f"with the id {options['worker']}"
        else:
            found = _running(list(rows.filter(hostname=host, stopped_at=None)), local=host == here)
            where = f"on host {host!r}"
        if not found:
            raise CommandError(f"There is no worker {where}.")
        for worker in found:
            if worker.status != "alive":
                raise CommandError(
                    f"Worker {worker.pk} (pid {worker.pid} on {worker.hostname}) {MEANING[worker.status]}."
                )
        last = max(worker.last_claim_at or worker.started_at for worker in found)
        ago = max(0.0, (clock.now() - last).total_seconds())
        self.stdout.write(
            f"healthy: {len(found)} {'worker' if len(found) == 1 else 'workers'} {where}, able to claim {ago:.0f} s ago"
        )


def _running(rows: list[Worker], *, local: bool) -> list[Worker]:
    """The latest worker of each process id; on this host, only if there is such a process: what was killed in an
    earlier life of this container may not have been struck off yet."""
    latest: dict[int, Worker] = {}
    for worker in rows:
        latest.setdefault(worker.pid, worker)
    return [worker for worker in latest.values() if not local or is_alive(worker.pid)]


def _worker_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise CommandError(
            f"--worker is {text[:64]!r}; use the id that the worker prints at its start."
        ) from None
