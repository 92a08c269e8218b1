"""Rebuild: what Redis is to have after it lost its data or went back in time. See dispatch/epochs.py for the phases."""

from __future__ import annotations

import time
from collections import deque
from uuid import UUID

import redis
from django.db.models import Q

from queue_app import clock, conf
from queue_app.dispatch import connection, epochs, keys, queues, workers
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.lifecycle import release
from queue_app.lifecycle.release import Check, Place, unchecked
from queue_app.models import Job, Queue, Worker, sql
from queue_app.models.sql import write_alias

#: Queues in one round trip.
QUEUES = 500
#: Names of queues that are looked up in one query.
NAMES = 5_000
#: Rows read at once. The database sorts all that wait for each page.
PAGE = 50_000
#: What comes first: jobs enqueued in so many seconds, most of each queue, and of so many queues.
NEW, NEWEST, NEW_QUEUES = 30.0, 200, 500


def names_of_queues(client: redis.Redis, check: Check = unchecked) -> list[str]:
    """All queues that may have something in Redis, sorted. What waits for a time is there only when that is near.

    Args:
        check: called before each question to the record.
    """
    names = set(names_in_redis(client))
    names.update(Queue.objects.using(write_alias()).values_list("name", flat=True))
    database, after = sql.write_connection(), ""
    while True:
        check()
        found = sql.for_vendor(database).names_of_waiting(database, after, NAMES)
        names.update(found)
        if len(found) < NAMES:
            break
        after = found[-1]
    names.update(release.queues_of_near(check))
    return sorted(names)


def names_in_redis(client: redis.Redis) -> list[str]:
    """The queues that Redis lists, and those that workers serve; sorted."""
    names = queues.known(client)
    for worker in workers.listed(client):
        names.update(worker.queues)
    return sorted(names)


def begin(
    client: redis.Redis, shard: str, life: str, check: Check = unchecked, *, unreachable: bool = True
) -> int:
    """Drop the stale data of a shard, set its pauses right, and begin an epoch.

    Args:
        life: what the epoch is bound to (see epochs.life_of_server).
        check: asked before each batch of writes, and each question to the record.
        unreachable: whether keys that lead to others may be missing, so that all keys have to be looked at.

    Returns:
        How many jobs were dropped. They come back from the record.
    """
    names = names_of_queues(client, check)
    count = 0
    mine = [name for name in names if keys.shard_of(name) == shard]
    for start in range(0, len(mine), QUEUES):
        check()
        dropped = epochs.drop(client, mine[start : start + QUEUES])
        if dropped is None:
            return count
        count += dropped
    cursor = 0
    while unreachable:
        check()
        cursor, stale = epochs.drop_unreachable(client, shard, cursor)
        if not stale:
            return count
        unreachable = cursor > 0
    if names:  # only now: a full Redis has room again
        check()
        queues.remember(client, names)
    sync_pauses(client, check)
    check()
    epochs.begin(client, shard, ids.new_text(), life)
    return count


def silent_workers(client: redis.Redis, shard: str, name: str) -> set[str]:
    """Living workers that have not announced yet what they run, in the epoch of this name."""
    living = Worker.objects.using(write_alias()).living().values_list("pk", flat=True)
    return {str(pk) for pk in living} - epochs.announced(client, shard, name)


class Refill:
    """Puts back all that waits, highest priority first, while new work flows. What was enqueued in the last seconds
    comes first, some of each queue: its pushes were refused, and those of a moment later are not.

    Args:
        shards: whose queues are filled.

    Attributes:
        done: nothing is left.
        full: it ended because Redis has no room; the sweep goes on when there is some.
    """

    def __init__(self, shards: set[str]) -> None:
        self.shards = shards
        self.done = False
        self.full = False
        self._page: deque[tuple[str, str]] = deque()
        self._behind: tuple[int, UUID] | None = None  # priority and id of the last row that was read
        self._read_all = False
        self._left: list[tuple[UUID | str, str]] = []
        self._timed: Place | None = None
        self._until = release.horizon()
        self._began = False

    def run(self, client: redis.Redis, seconds: float, check: Check = unchecked) -> int:
        """Go on for about so many seconds.

        Returns:
            How many jobs were put back.
        """
        until = time.monotonic() + seconds
        count = 0
        try:
            if not self._began:
                check()
                self._began = True
                count += self._newest(client, check)
            while not self.done and time.monotonic() < until:
                check()
                if part := self._next_part():
                    count += release.restore(client, part, check, self._left)
                    continue
                count += release.restore(client, self._left, check)  # other transactions have ended by now
                self._left = []
                found, self._timed = release.load_some(client, self._until, self._timed, check=check)
                count += found
                self.done = self._timed is None
        except connection.Full:
            self.full = self.done = True
        return count

    def _newest(self, client: redis.Redis, check: Check) -> int:
        database, now = sql.write_connection(), clock.seconds()
        scan = sql.for_vendor(database).newest_waiting
        found = scan(database, "", ids.floor(now - NEW), ids.floor(now + NEW), NEWEST, NEW_QUEUES)
        rows: list[tuple[UUID | str, str]] = [
            (job_id, queue)
            for queue, newest in found
            if keys.shard_of(queue) in self.shards
            for job_id in reversed(newest)
        ]
        return sum(
            release.restore(client, rows[start : start + release.JOBS_PER_PUSH], check, self._left)
            for start in range(0, len(rows), release.JOBS_PER_PUSH)
        )

    def _next_part(self) -> list[tuple[UUID | str, str]]:
        part: list[tuple[UUID | str, str]] = []
        while len(part) < release.JOBS_PER_PUSH and (self._page or self._read_page()):
            job_id, queue = self._page.popleft()
            if keys.shard_of(queue) in self.shards:
                part.append((job_id, queue))
        return part

    def _read_page(self) -> bool:
        """Read the next rows. No cursor stays open between two runs: SQLite would let no other process write, and
        connections may end. Returns whether there were any."""
        if self._read_all:
            return False
        rows = Job.objects.using(write_alias()).filter(state=JobState.QUEUED)
        if self._behind is not None:
            priority, pk = self._behind
            rows = rows.filter(Q(priority__lt=priority) | Q(priority=priority, pk__gt=pk))
        found = list(rows.order_by("-priority", "id").values_list("priority", "pk", "queue")[:PAGE])
        self._read_all = len(found) < PAGE
        if found:
            self._behind = found[-1][:2]
        self._page.extend((str(pk), queue) for _, pk, queue in found)
        return bool(found)


def at_once(client: redis.Redis) -> int:
    """The whole rebuild in one go, for a process that is alone: no other worker lives.

    Returns:
        How many jobs were put back.
    """
    life = epochs.life_of_server(client)
    for shard, epoch in epochs.read(client).items():
        if epoch.lost:
            begin(client, shard, life)
    for shard, epoch in epochs.read(client).items():
        if epoch.phase == epochs.CLOSED:
            epochs.open_claims(client, shard, epoch)
    filling = {shard: epoch for shard, epoch in epochs.read(client).items() if epoch.phase == epochs.FILLING}
    if not filling:
        return 0
    count = Refill(set(filling)).run(client, float("inf"))
    for shard, epoch in filling.items():
        epochs.complete(client, shard, epoch)
    return count


def sync_pauses(client: redis.Redis, check: Check = unchecked) -> int:
    """Let Redis hold back exactly the queues whose rows say so. It may have been away when that was said, and a row
    may have been deleted while it was.

    Returns:
        How many queues were put right.
    """
    using = write_alias()
    names = sorted(queues.known(client).union(Queue.objects.using(using).values_list("name", flat=True)))
    count = 0
    for start in range(0, len(names), QUEUES):
        part = names[start : start + QUEUES]
        # Redis first: an operator changes the row before it, so that a row that is read later is not older.
        held_back = queues.paused(client, part)
        rows = Queue.objects.using(using).filter(name__in=part, paused=True)
        wanted = set(rows.values_list("name", flat=True))
        for name in sorted(held_back ^ wanted):
            check()
            count += queues.pause(client, name, name in wanted)
    return count


def limit_of_announcing() -> float:
    """Seconds for which claims wait for living workers to announce what they run."""
    return min(3.0, conf.get().LEASE)
