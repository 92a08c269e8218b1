"""Sweep: rows that were committed but never pushed, because their process died in between or Redis was away.

Ids are made in the order of time, so what is new is one range of ids: it is looked at soon, each row once, whatever
waits behind it. The rest is walked through slowly (`recover.sweep`): that finds a row whose transaction was open for so
long after its enqueue that it was not among the new ones when it committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from uuid import UUID

import redis

from queue_app import clock, conf
from queue_app.dispatch import queues
from queue_app.domain import ids
from queue_app.lifecycle import release
from queue_app.lifecycle.release import Check, unchecked
from queue_app.models import Job, sql
from queue_app.models.sql import write_alias

#: Rows are new for so many seconds after SWEEP_GRACE: a leader that has just been elected looks back as far, and a
#: commit that comes so late after its enqueue is still seen soon.
WINDOW = 30.0
#: Most new rows looked at in one call, of all queues together; what is left is looked at by the next.
MAX_ROWS_READ = 50_000
#: Most rows of a queue, the newest ones, among which late commits are looked for. With very many queues it is their
#: share of LIMIT, and never less than the second number.
NEWEST, LEAST = 2_000, 5
#: Looks at a row that another transaction holds, one in each call; after these it is left to the slow walk.
TRIES = 20
#: Queues in one query.
QUEUES = 5_000


def one_of_each(keep: Check = unchecked) -> Iterator[list[tuple[str, str]]]:
    """One job, as `(id, queue)`, of each queue in which any has waited for longer than SWEEP_GRACE; in parts.

    Args:
        keep: called for each part.
    """
    database = sql.write_connection()
    scan = sql.for_vendor(database).newest_waiting
    after, until = "", ids.floor(clock.seconds() - conf.get().SWEEP_GRACE)
    while True:
        keep()
        found = scan(database, after, ids.floor(0), until, 1, QUEUES)
        if part := [(newest[0], name) for name, newest in found if newest]:
            yield part
        if len(found) < QUEUES:
            return
        after = found[-1][0]


class Recent:
    """Looks at each new row once.

    One query reads the newest rows of all queues. What a queue has more of them is remembered by where it begins, and
    looked at afterwards. Ids that were looked at are remembered while they are new, so that the query finds again only
    those whose transaction was committed late. A row that another transaction held is looked at again.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin with the window again: another process may have swept since."""
        self._reached: UUID | None = None  # all rows before it were looked at, or are in `_left`
        self._left: dict[str, UUID] = {}  # queue → the rows behind this one were not all looked at
        self._seen: set[str] = set()
        self._again: dict[tuple[str, str], int] = {}  # id and queue of rows that were held → looks at them
        self._listed: set[str] = set()  # the queues of the pass before
        self._met: set[str] = set()  # those of this pass, so far
        self._share = LEAST
        self._after = ""  # where the pass over all queues stands
        self._span = (ids.floor(0), ids.floor(0))  # the ids that it looks at

    @property
    def unfinished(self) -> bool:
        """Whether the last call had no time for all queues. (What is left of a burst can wait for the next one.)"""
        return bool(self._after)

    def run(
        self,
        client: redis.Redis,
        *,
        limit: int = MAX_ROWS_READ,
        check: Check = unchecked,
        keep: Check = unchecked,
        over: Callable[[], bool] = lambda: False,
    ) -> int:
        """Push the new rows that Redis does not know, and list the queues of waiting rows in Redis.

        Args:
            limit: most new rows looked at.
            check: asked before each batch of writes.
            keep: called in every loop.
            over: whether to leave the rest to the next call.

        Returns:
            How many were missing.
        """
        if not self._after:
            self._begin(limit)
        count, looked = self._look(client, list(self._again), check, keep), 0
        while True:
            keep()
            found, after = self._newest()
            self._list(client, [name for name, _ in found])
            rows = self._unseen(found)
            count += self._look(client, rows, check, keep)
            self._seen.update(job_id for job_id, _ in rows)
            looked += len(rows)
            self._after = after
            if not after:
                self._end()
                break
            if over():
                return count
        return count + self._rest(client, max(1, limit - looked), check, keep, over)

    def _look(self, client: redis.Redis, rows: list[tuple[str, str]], check: Check, keep: Check) -> int:
        """Push those of these rows that are missing, and note which of them were held by another transaction."""
        left: list[tuple[UUID | str, str]] = []
        count = release.restore_missing(client, rows, check=check, keep=keep, left=left)
        held = {(str(pk), queue) for pk, queue in left}
        for row in rows:
            looks = self._again.pop(row, 0) + 1
            if row in held and looks < TRIES:
                self._again[row] = looks
        return count

    def _begin(self, limit: int) -> None:
        end = clock.seconds() - conf.get().SWEEP_GRACE
        since, until = ids.floor(end - WINDOW), ids.floor(end)
        self._span = (min(self._reached or since, since), until)
        # Not knowing how many there are, be modest: what a queue has more of is looked at afterwards.
        self._share = max(LEAST, min(NEWEST, limit // (len(self._listed) or QUEUES)))

    def _end(self) -> None:
        self._reached = self._span[1]
        self._listed, self._met = self._met, set()
        oldest = str(ids.floor(clock.seconds() - conf.get().SWEEP_GRACE - WINDOW))
        self._seen = {job_id for job_id in self._seen if job_id >= oldest}

    def _newest(self) -> tuple[list[tuple[str, list[str]]], str]:
        """The newest rows of the next queues, and the name of the last one; "" when there are no more."""
        database = sql.write_connection()
        scan = sql.for_vendor(database).newest_waiting
        found = scan(database, self._after, *self._span, self._share, QUEUES)
        return found, found[-1][0] if len(found) == QUEUES else ""

    def _unseen(self, found: Iterable[tuple[str, list[str]]]) -> list[tuple[str, str]]:
        """Those of these rows that were not looked at, oldest first; and note where there are more of them."""
        rows: list[tuple[str, str]] = []
        reached = self._reached or self._span[0]
        for name, newest in found:
            if not newest:
                continue
            if len(newest) == self._share and UUID(newest[-1]) > reached:
                self._left.setdefault(name, UUID(int=reached.int - 1))
            rows += [(job_id, name) for job_id in reversed(newest) if job_id not in self._seen]
        return rows

    def _list(self, client: redis.Redis, names: list[str]) -> None:
        """List queues that had no waiting rows a moment ago: Redis may have forgotten them as idle, and a process that
        pushes to them lists each only once."""
        if new := [name for name in names if name not in self._listed]:
            queues.remember(client, new)
        self._met.update(names)

    def _rest(
        self, client: redis.Redis, limit: int, check: Check, keep: Check, over: Callable[[], bool]
    ) -> int:
        """Look at the rows that there were more of, a part of each queue in turn, oldest first."""
        count = 0
        while self._left and limit > 0:
            for name, place in list(self._left.items()):
                keep()
                part = min(release.JOBS_PER_PUSH, limit)
                rows = Job.objects.using(write_alias()).waiting_now().filter(queue=name)
                rows = rows.filter(id__gt=place, id__lt=self._span[1]).order_by("id")
                found = list(rows.values_list("pk", flat=True)[:part])
                missing = [(str(pk), name) for pk in found if str(pk) not in self._seen]
                count += self._look(client, missing, check, keep)
                if len(found) == part:
                    self._left[name] = found[-1]
                else:
                    del self._left[name]
                limit -= part
                if limit <= 0 or over():
                    return count
        return count
