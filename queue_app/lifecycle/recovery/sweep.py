"""Sweep: find rows that were committed but never pushed, because their process died in between or Redis was away.

Ids are made in the order of time, so new rows are one range of ids. The sweep looks at each new row once and soon,
however many older rows wait. The older rows, the backlog, are walked through slowly. That finds a row whose transaction
stayed open so long after the enqueue that the row was no longer new when it was committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import redis

from queue_app import clock, conf
from queue_app.dispatch import queues
from queue_app.domain import ids
from queue_app.lifecycle import release
from queue_app.lifecycle.callbacks import Check, never, no_check
from queue_app.models import Job, sql
from queue_app.models.sql import write_alias

#: Rows are new for so many seconds after SWEEP_GRACE. A new leader looks back as far, and a commit that comes up to so
#: late after its enqueue is still found soon.
WINDOW_SECONDS = 30.0
#: Most new rows looked at in one call, of all queues together. The next call looks at the rest.
MAX_ROWS_READ = 50_000
#: Most rows of a queue, the newest ones, that a pass reads. With very many queues it is their share of MAX_ROWS_READ,
#: and at least the second number.
MAX_ROWS_PER_QUEUE, MIN_ROWS_PER_QUEUE = 2_000, 5
#: How often a row is looked at that another transaction has locked, once in each call. Then it is left to the walk.
MAX_TRIES = 20
#: Queues in one query.
QUEUES_PER_QUERY = 5_000

#: Where a walk through the backlog stands: behind this id in this queue.
BacklogPosition = tuple[str, UUID]


def one_of_each(keep_alive: Check = no_check) -> Iterator[list[tuple[str, str]]]:
    """One job, as `(id, queue)`, of each queue in which a job has waited for longer than SWEEP_GRACE; in parts.

    Args:
        keep_alive: called for each part.
    """
    database = sql.write_connection()
    scan = sql.for_vendor(database).newest_waiting
    after, until = "", ids.floor(clock.seconds() - conf.get().SWEEP_GRACE)
    while True:
        keep_alive()
        found = scan(database, after, ids.floor(0), until, 1, QUEUES_PER_QUERY)
        if part := [(newest[0], name) for name, newest in found if newest]:
            yield part
        if len(found) < QUEUES_PER_QUERY:
            return
        after = found[-1][0]


class NewRowSweep:
    """Looks at each new row once.

    A pass reads the newest rows of all queues. If a queue has more new rows than that, the sweep remembers where they
    begin and looks at them afterwards. It remembers the ids that it has looked at while they are new. So a later pass
    looks only at rows whose transaction was committed late. A row that another transaction had locked is tried again.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin with the whole window again, as another process may have swept since."""
        self._reached: UUID | None = None  # all rows before it were looked at, or are in `_left`
        self._left: dict[str, UUID] = {}  # queue → rows behind this id were not all looked at
        self._seen: set[str] = set()
        self._locked: dict[tuple[str, str], int] = {}  # id and queue of a row that was locked → tries so far
        self._listed: set[str] = set()  # the queues of the pass before
        self._found: set[str] = set()  # the queues of this pass, so far
        self._share = MIN_ROWS_PER_QUEUE
        self._after = ""  # the last queue that the pass has read; "" between two passes
        self._span = (ids.floor(0), ids.floor(0))  # the ids that the pass looks at

    @property
    def unfinished(self) -> bool:
        """Whether the last call had no time for all queues. More rows of a queue (`_left`) wait for the next call."""
        return bool(self._after)

    def run(
        self,
        client: redis.Redis,
        *,
        limit: int = MAX_ROWS_READ,
        check: Check = no_check,
        keep_alive: Check = no_check,
        out_of_time: Callable[[], bool] = never,
    ) -> int:
        """Push the new rows that Redis does not know, and list the queues of waiting rows in Redis.

        Args:
            limit: most new rows looked at.
            check: called before each batch of writes.
            keep_alive: called in every loop.
            out_of_time: whether to leave the rest to the next call.

        Returns:
            How many were missing.
        """
        if not self._after:
            self._begin_pass(limit)
        count, read = self._push_missing(client, list(self._locked), check, keep_alive), 0
        while True:
            keep_alive()
            found, after = self._read_newest()
            self._list_queues(client, [name for name, _ in found])
            rows = self._unseen(found)
            count += self._push_missing(client, rows, check, keep_alive)
            self._seen.update(job_id for job_id, _ in rows)
            read += len(rows)
            self._after = after
            if not after:
                self._end_pass()
                break
            if out_of_time():
                return count
        return count + self._push_left(client, max(1, limit - read), check, keep_alive, out_of_time)

    def _push_missing(
        self, client: redis.Redis, rows: list[tuple[str, str]], check: Check, keep_alive: Check
    ) -> int:
        """Push the rows that Redis does not know, and remember those that another transaction has locked."""
        left: list[tuple[UUID | str, str]] = []
        count = release.restore_missing(client, rows, check=check, keep_alive=keep_alive, left=left)
        locked = {(str(pk), queue) for pk, queue in left}
        for row in rows:
            tries = self._locked.pop(row, 0) + 1
            if row in locked and tries < MAX_TRIES:
                self._locked[row] = tries
        return count

    def _begin_pass(self, limit: int) -> None:
        end = clock.seconds() - conf.get().SWEEP_GRACE
        since, until = ids.floor(end - WINDOW_SECONDS), ids.floor(end)
        self._span = (min(self._reached or since, since), until)
        # In the first pass the number of queues is unknown, and the share is small. `_left` has the rest.
        self._share = max(
            MIN_ROWS_PER_QUEUE, min(MAX_ROWS_PER_QUEUE, limit // (len(self._listed) or QUEUES_PER_QUERY))
        )

    def _end_pass(self) -> None:
        self._reached = self._span[1]
        self._listed, self._found = self._found, set()
        oldest = str(ids.floor(clock.seconds() - conf.get().SWEEP_GRACE - WINDOW_SECONDS))
        self._seen = {job_id for job_id in self._seen if job_id >= oldest}

    def _read_newest(self) -> tuple[list[tuple[str, list[str]]], str]:
        """The newest rows of the next queues, and the name of the last queue; "" if there are no more."""
        database = sql.write_connection()
        scan = sql.for_vendor(database).newest_waiting
        found = scan(database, self._after, *self._span, self._share, QUEUES_PER_QUERY)
        return found, found[-1][0] if len(found) == QUEUES_PER_QUERY else ""

    def _unseen(self, found: Iterable[tuple[str, list[str]]]) -> list[tuple[str, str]]:
        """The rows that were not looked at yet, oldest first. Remembers where a queue has more of them."""
        rows: list[tuple[str, str]] = []
        reached = self._reached or self._span[0]
        for name, newest in found:
            if not newest:
                continue
            if len(newest) == self._share and UUID(newest[-1]) > reached:
                self._left.setdefault(name, UUID(int=reached.int - 1))
            rows += [(job_id, name) for job_id in reversed(newest) if job_id not in self._seen]
        return rows

    def _list_queues(self, client: redis.Redis, names: list[str]) -> None:
        """List queues in Redis that had no waiting rows in the pass before. They may have been removed as idle, and a
        process that pushes to a queue lists it only once."""
        if new := [name for name in names if name not in self._listed]:
            queues.remember(client, new)
        self._found.update(names)

    def _push_left(
        self,
        client: redis.Redis,
        limit: int,
        check: Check,
        keep_alive: Check,
        out_of_time: Callable[[], bool],
    ) -> int:
        """Push what is missing of the rows in `_left`, oldest first, a part of each queue in turn."""
        count = 0
        while self._left and limit > 0:
            for name, after in list(self._left.items()):
                keep_alive()
                part = min(release.JOBS_PER_PUSH, limit)
                rows = Job.objects.using(write_alias()).waiting_now().filter(queue=name)
                rows = rows.filter(id__gt=after, id__lt=self._span[1]).order_by("id")
                found = list(rows.values_list("pk", flat=True)[:part])
                missing = [(str(pk), name) for pk in found if str(pk) not in self._seen]
                count += self._push_missing(client, missing, check, keep_alive)
                if len(found) == part:
                    self._left[name] = found[-1]
                else:
                    del self._left[name]
                limit -= part
                if limit <= 0 or out_of_time():
                    return count
        return count


def push_missing_backlog(
    client: redis.Redis,
    *,
    limit: int = 2_000,
    after: BacklogPosition | None = None,
    check: Check = no_check,
    keep_alive: Check = no_check,
) -> tuple[int, BacklogPosition | None]:
    """Push rows that Redis does not know: one part of a walk through all that waits, by queue and id.

    Args:
        limit: most rows looked at.
        after: go on behind this position; None: from the beginning.
        check: called before each batch of writes.
        keep_alive: called in every loop.

    Returns:
        How many were missing, and the next position; None at the end.
    """
    database = sql.write_connection()
    until = ids.floor(clock.seconds() - conf.get().SWEEP_GRACE)
    walk = sql.for_vendor(database).walk_waiting
    rows = walk(database, after or ("", ids.floor(0)), until, limit)
    count = release.restore_missing(client, rows, check=check, keep_alive=keep_alive)
    return count, (rows[-1][1], UUID(rows[-1][0])) if len(rows) == limit else None
