"""Finds keys that Redis has lost in part, by eviction or by hand.

It asks two questions. Can all jobs that wait in Redis be reached through the lanes of their queue? Does Redis know a
job of each queue in which jobs have waited for a while? A single answer may be wrong, because jobs move meanwhile. So
a queue is repaired only if two runs in a row find the same.
"""

from __future__ import annotations

import logging
from uuid import UUID

from queue_app.dispatch import epochs, keys, listing
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild, sweep
from queue_app.maintenance.duty import Duty
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.models import Job
from queue_app.models.sql import write_alias

logger = logging.getLogger(__name__)

#: Queues of which Redis looks at a sample of the jobs in one round trip.
QUEUES_PER_SAMPLE = 20


class VerifyRedis(Duty):
    """Compares what Redis has with itself and with the record."""

    name = "verify"
    interval = 15.0  # two runs and a rebuild take less than a minute
    doc = "finds keys that Redis has lost in part"

    def __init__(self) -> None:
        # What the run before found: queues with jobs in no lane, and queues of which Redis knew no job.
        self._unreachable: set[str] = set()
        self._unknown: set[str] = set()

    def run(self, term: LeaderTerm) -> int:
        """Check all queues; repair those in which two runs found the same.

        Returns:
            How many queues were repaired.
        """
        if not term.is_complete:
            self._unreachable, self._unknown = set(), set()
            return 0
        return self._check_lanes(term) or self._check_rows(term)

    def _check_lanes(self, term: LeaderTerm) -> int:
        """Begin a rebuild of the shards in which waiting jobs are in no lane."""
        found = set()
        for part in listing.parts(rebuild.names_in_redis(term.client)):
            term.keep_alive()
            counts = listing.counts(term.client, part)
            found |= {name for name, count in counts.items() if count.waiting > count.listed}
            # Ids of cancelled jobs stay in the lanes, and may hide that other ids are missing. Look at a sample there.
            uncertain = [name for name, count in counts.items() if 0 < count.waiting < count.listed]
            for start in range(0, len(uncertain), QUEUES_PER_SAMPLE):
                term.keep_alive()
                found |= listing.stray(term.client, uncertain[start : start + QUEUES_PER_SAMPLE])
        confirmed, self._unreachable = found & self._unreachable, found
        for shard in {keys.shard_of(name) for name in confirmed}:
            term.check()
            if epochs.end(term.client, shard, term.epochs[shard]):
                logger.warning(
                    "Jobs of %s are in no lane of Redis: some of its keys are gone. All that waits is put back.",
                    ", ".join(sorted(confirmed)[:5]),
                )
        if confirmed:
            term.check()
        return len(confirmed)

    def _check_rows(self, term: LeaderTerm) -> int:
        """Push all that waits in queues of which Redis knows no job."""
        found = set()
        for part in sweep.one_of_each(term.keep_alive):
            term.keep_alive()
            found |= {queue for _, queue in release.unknown(term.client, part)}
        confirmed, self._unknown = found & self._unknown, found
        for queue in sorted(confirmed):
            if count := self._restore(term, queue):
                logger.warning("%d waiting jobs of %s were missing in Redis and were pushed.", count, queue)
        return len(confirmed)

    @staticmethod
    def _restore(term: LeaderTerm, queue: str) -> int:
        """Push the waiting jobs of a queue that Redis does not know. Returns how many."""
        count, after = 0, UUID(int=0)
        while True:
            rows = Job.objects.using(write_alias()).waiting_now().filter(queue=queue, id__gt=after)
            part = list(rows.order_by("id").values_list("pk", "queue")[: release.JOBS_PER_PUSH])
            if not part:
                return count
            after = part[-1][0]
            term.keep_alive()
            count += release.restore(term.client, part, term.check)
