"""What is known of workers besides their heartbeat in Redis: which children hold jobs, and how fresh their rows are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import redis
from django.db.models.functions import Now

from queue_app.dispatch import listing, queues, workers
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Worker
from queue_app.models.sql import write_alias


def holding(
    client: redis.Redis, listed: Iterable[workers.Listed], keep: Check = unchecked
) -> dict[str, dict[str, list[str]]]:
    """Which children may hold jobs.

    Args:
        listed: the workers whose queues are looked at besides those that Redis lists.
        keep: called for each part of the queues.

    Returns:
        Worker → child → queues.
    """
    names = queues.known(client).union(*(worker.queues for worker in listed))
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for part in listing.parts(sorted(names)):
        keep()
        for queue, holders in listing.holders(client, part).items():
            for holder in holders:
                found[workers.owner(holder)].setdefault(holder, []).append(queue)
    return found


def with_fresh_rows(worker_ids: Iterable[str], seconds: float) -> set[str]:
    """Those of these workers that have not stopped and whose row was renewed within so many seconds; one query.

    The row has the time of the database, and is compared with that: hosts may disagree about the time.

    Raises:
        DatabaseError: nothing is known.
    """
    rows = Worker.objects.using(write_alias()).filter(pk__in=worker_ids, stopped_at=None)
    found = rows.annotate(now=Now()).values_list("pk", "heartbeat_at", "now")
    # One that lies in the future was written before the clock was put back.
    return {str(pk) for pk, beat, now in found if abs((now - beat).total_seconds()) <= seconds}
