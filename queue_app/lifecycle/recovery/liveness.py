"""Signs of life of workers besides their heartbeat in Redis: the jobs that their children hold, and their rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import redis
from django.db.models.functions import Now

from queue_app.dispatch import listing, queues, workers
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.models import Worker
from queue_app.models.sql import write_alias


def holders_by_worker(
    client: redis.Redis, listed: Iterable[workers.Listed], keep_alive: Check = no_check
) -> dict[str, dict[str, list[str]]]:
    """The children that may hold jobs.

    Args:
        listed: workers whose queues are looked at, besides the queues that Redis lists.
        keep_alive: called for each part of the queues.

    Returns:
        Worker → child → queues.
    """
    names = queues.known(client).union(*(worker.queues for worker in listed))
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for part in listing.parts(sorted(names)):
        keep_alive()
        for queue, holders in listing.holders(client, part).items():
            for holder in holders:
                found[workers.owner(holder)].setdefault(holder, []).append(queue)
    return found


def with_fresh_rows(worker_ids: Iterable[str], seconds: float) -> set[str]:
    """The workers that have not stopped and whose row was renewed within so many seconds; one query.

    The row has the time of the database and is compared with that, as the clocks of hosts may differ.

    Raises:
        DatabaseError: the rows cannot be read.
    """
    rows = Worker.objects.using(write_alias()).filter(pk__in=worker_ids, stopped_at=None)
    found = rows.annotate(now=Now()).values_list("pk", "heartbeat_at", "now")
    # A time in the future was written before the clock was set back.
    return {str(pk) for pk, beat, now in found if abs((now - beat).total_seconds()) <= seconds}
