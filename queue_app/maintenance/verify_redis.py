"""Audit: notices keys that Redis has lost in part, by eviction or by hand.

Two questions find them. Can all jobs that wait in Redis be reached through the lanes of their queue? Does Redis know
a job of each queue that has waited for a while? Each answer must be the same in two runs, as each may be wrong once.
"""

from __future__ import annotations

import logging
from uuid import UUID

from queue_app.dispatch import epochs, keys, listing
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild, sweep
from queue_app.maintenance.duty import Duty, LeaderTerm
from queue_app.models import Job
from queue_app.models.sql import write_alias

logger = logging.getLogger(__name__)


#: Queues of which Redis looks at a sample of the jobs in one round trip.
CLOSER = 20


class Audit:
    """What the run before has found."""

    def __init__(self) -> None:
        self._unreachable: set[str] = set()
        self._unknown: set[str] = set()

    def run(self, term: LeaderTerm) -> int:
        """Look at all queues; put right what was found twice.

        Returns:
            How many queues were put right.
        """
        if not term.whole:
            self._unreachable, self._unknown = set(), set()
            return 0
        return self._look_at_lanes(term) or self._look_at_rows(term)

    def _look_at_lanes(self, term: LeaderTerm) -> int:
        found = set()
        for part in listing.parts(rebuild.names_in_redis(term.client)):
            term.keep()
            counts = listing.counts(term.client, part)
            found |= {name for name, count in counts.items() if count.waiting > count.listed}
            # Ids of cancelled jobs in some lanes make up for those that others have lost: look closer there.
            stale = [name for name, count in counts.items() if 0 < count.waiting < count.listed]
            for start in range(0, len(stale), CLOSER):
                term.keep()
                found |= listing.stray(term.client, stale[start : start + CLOSER])
        twice, self._unreachable = found & self._unreachable, found
        for shard in {keys.shard_of(name) for name in twice}:
            term.check()
            if epochs.end(term.client, shard, term.epochs[shard]):
                logger.warning(
                    "Jobs of %s are in no lane of Redis: some of its keys are gone. All that waits is put back.",
                    ", ".join(sorted(twice)[:5]),
                )
        if twice:
            term.check()
        return len(twice)

    def _look_at_rows(self, term: LeaderTerm) -> int:
        """Push all that waits in queues of which Redis does not know a job, where that was so before."""
        found = set()
        for part in sweep.one_of_each(term.keep):
            term.keep()
            found |= {queue for _, queue in release.unknown(term.client, part)}
        twice, self._unknown = found & self._unknown, found
        for queue in sorted(twice):
            if count := self._restore(term, queue):
                logger.warning("%d waiting jobs of %s were missing in Redis and were pushed.", count, queue)
        return len(twice)

    @staticmethod
    def _restore(term: LeaderTerm, queue: str) -> int:
        count, behind = 0, UUID(int=0)
        while True:
            rows = Job.objects.using(write_alias()).waiting_now().filter(queue=queue, id__gt=behind)
            part = list(rows.order_by("id").values_list("pk", "queue")[: release.JOBS_PER_PUSH])
            if not part:
                return count
            behind = part[-1][0]
            term.keep()
            count += release.restore(term.client, part, term.check)


#: Twice this, and a rebuild, are less than a minute.
AUDIT = Duty("audit", 15.0, Audit().run, "finds keys that Redis has lost in part")
