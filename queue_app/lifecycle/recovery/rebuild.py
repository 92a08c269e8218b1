"""Rebuild: fill Redis again after it lost its data or went back in time. See dispatch/epochs.py for the phases."""

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
from queue_app.lifecycle.callbacks import Check, no_check
from queue_app.lifecycle.release import Position
from queue_app.models import Job, Queue, Worker, sql
from queue_app.models.sql import write_alias

#: Queues in one round trip.
QUEUES_PER_TRIP = 500
#: Names of queues that are looked up in one query.
NAMES_PER_QUERY = 5_000
#: Rows read at once. The database sorts all waiting rows for each page.
ROWS_PER_PAGE = 50_000
#: What a refill pushes first: jobs of the last so many seconds, at most so many of a queue, and of so many queues.
NEW_SECONDS, MAX_NEW_PER_QUEUE, MAX_NEW_QUEUES = 30.0, 200, 500


def names_of_queues(client: redis.Redis, check: Check = no_check) -> list[str]:
    """All queues that may have something in Redis, sorted. Delayed jobs are there only when their time is near.

    Args:
        check: called before each query.
    """
    names = set(names_in_redis(client))
    names.update(Queue.objects.using(write_alias()).values_list("name", flat=True))
    database, after = sql.write_connection(), ""
    while True:
        check()
        found = sql.for_vendor(database).names_of_waiting(database, after, NAMES_PER_QUERY)
        names.update(found)
        if len(found) < NAMES_PER_QUERY:
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
    client: redis.Redis, shard: str, life: str, check: Check = no_check, *, unreachable: bool = True
) -> int:
    """Drop the stale data of a shard, correct its pauses, and begin an epoch.

    Args:
        life: what the epoch is bound to (see epochs.life_of_server).
        check: called before each batch of writes, and before each query.
        unreachable: whether keys that lead to other keys may be missing, so that all keys have to be scanned.

    Returns:
        How many jobs were dropped. The refill reads them from the record.
    """
    names = names_of_queues(client, check)
    count = 0
    mine = [name for name in names if keys.shard_of(name) == shard]
    for start in range(0, len(mine), QUEUES_PER_TRIP):
        check()
        dropped = epochs.drop(client, mine[start : start + QUEUES_PER_TRIP])
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
    if names:  # not earlier: a full Redis has room only now
        check()
        queues.remember(client, names)
    sync_pauses(client, check)
    check()
    epochs.begin(client, shard, ids.new_text(), life)
    return count


def unannounced_workers(client: redis.Redis, shard: str, name: str) -> set[str]:
    """Ids of living workers that have not announced yet what they run.

    Args:
        name: of the epoch.
    """
    living = Worker.objects.using(write_alias()).living().values_list("pk", flat=True)
    return {str(pk) for pk in living} - epochs.announced(client, shard, name)


class Refill:
    """Pushes all waiting jobs, highest priority first, while workers run and enqueue. Jobs of the last seconds come
    before all others, some of each queue: their own pushes were refused, while the pushes of newer jobs are not.

    Args:
        shards: whose queues are filled.

    Attributes:
        done: nothing is left to do here.
        full: it ended because Redis has no room. The duty `backlog` pushes the rest when there is room.
    """

    def __init__(self, shards: set[str]) -> None:
        self.shards = shards
        self.done = False
        self.full = False
        self._page: deque[tuple[str, str]] = deque()
        self._position: tuple[int, UUID] | None = None  # priority and id of the last row that was read
        self._read_all = False
        self._locked: list[tuple[UUID | str, str]] = []  # jobs whose rows another transaction has locked
        self._delayed: Position | None = None
        self._until = release.horizon()
        self._began = False

    def run(self, client: redis.Redis, seconds: float, check: Check = no_check) -> int:
        """Go on for about so many seconds.

        Returns:
            How many jobs were pushed.
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
                    count += release.restore(client, part, check, self._locked)
                    continue
                count += release.restore(
                    client, self._locked, check
                )  # the other transactions have ended by now
                self._locked = []
                found, self._delayed = release.load_due_part(client, self._until, self._delayed, check=check)
                count += found
                self.done = self._delayed is None
        except connection.Full:
            self.full = self.done = True
        return count

    def _newest(self, client: redis.Redis, check: Check) -> int:
        database, now = sql.write_connection(), clock.seconds()
        scan = sql.for_vendor(database).newest_waiting
        found = scan(
            database,
            "",
            ids.floor(now - NEW_SECONDS),
            ids.floor(now + NEW_SECONDS),
            MAX_NEW_PER_QUEUE,
            MAX_NEW_QUEUES,
        )
        rows: list[tuple[UUID | str, str]] = [
            (job_id, queue)
            for queue, newest in found
            if keys.shard_of(queue) in self.shards
            for job_id in reversed(newest)
        ]
        return sum(
            release.restore(client, rows[start : start + release.JOBS_PER_PUSH], check, self._locked)
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
        """Read the next rows; return whether there were any.

        No cursor stays open between two runs: with SQLite it would keep all other processes from writing, and a
        connection may be closed meanwhile."""
        if self._read_all:
            return False
        rows = Job.objects.using(write_alias()).filter(state=JobState.QUEUED)
        if self._position is not None:
            priority, pk = self._position
            rows = rows.filter(Q(priority__lt=priority) | Q(priority=priority, pk__gt=pk))
        found = list(rows.order_by("-priority", "id").values_list("priority", "pk", "queue")[:ROWS_PER_PAGE])
        self._read_all = len(found) < ROWS_PER_PAGE
        if found:
            self._position = found[-1][:2]
        self._page.extend((str(pk), queue) for _, pk, queue in found)
        return bool(found)


def at_once(client: redis.Redis) -> int:
    """The whole rebuild in one call, for a process that is alone: no other worker lives.

    Returns:
        How many jobs were pushed.
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


def sync_pauses(client: redis.Redis, check: Check = no_check) -> int:
    """Make the pauses in Redis equal to those in the rows of queues. They may differ, because Redis was away when a
    queue was paused or resumed, or when its row was deleted.

    Returns:
        How many queues were corrected.
    """
    using = write_alias()
    names = sorted(queues.known(client).union(Queue.objects.using(using).values_list("name", flat=True)))
    count = 0
    for start in range(0, len(names), QUEUES_PER_TRIP):
        part = names[start : start + QUEUES_PER_TRIP]
        # Redis is read first. An operator changes the row before Redis, so the row that is read here is not older.
        paused = queues.paused(client, part)
        rows = Queue.objects.using(using).filter(name__in=part, paused=True)
        wanted = set(rows.values_list("name", flat=True))
        for name in sorted(paused ^ wanted):
            check()
            count += queues.pause(client, name, name in wanted)
    return count


def announcement_timeout() -> float:
    """Seconds for which claims wait until all living workers have announced what they run."""
    return min(3.0, conf.get().LEASE)
