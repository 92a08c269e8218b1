"""After Redis stood still, the heartbeats of the living are as old as those of the dead: who is buried then?"""

from __future__ import annotations

from typing import Any

from queue_app import conf
from queue_app.dispatch import keys, workers
from queue_app.lifecycle.recovery import recover
from queue_app.maintenance import reap_workers
from queue_app.models import Attempt
from tests.support.jobs import OTHER_WORKER, WORKER, Child, jobs
from tests.support.marks import committed

pytestmark = committed

LEADER = "0190a000-0000-7000-8000-00000000000c"


class Looks:
    """The looks of a leader at the workers, at moments that the test decides."""

    def __init__(self, client: Any) -> None:
        self.now = 1_000.0
        self._client = client
        self._late = reap_workers.LateHeartbeats(lambda: self.now)

    def look(self, after: float = reap_workers.INTERVAL_SECONDS) -> int:
        """Look `after` seconds later; how many were buried."""
        self.now += after
        self._late.begin_check()
        return recover.reap(self._client, LEADER, self._late.is_confirmed)


def age(client: Any, worker_id: str, seconds: float) -> None:
    """Make a worker's last heartbeat that old."""
    client.hset(keys.workers(), worker_id, f"{workers.now(client) - seconds!r}|default")


def test_after_redis_stood_still_only_the_dead_are_buried() -> None:
    living, dead = Child(1, WORKER), Child(1, OTHER_WORKER)
    jobs(2)
    living.claim()
    dead.claim()
    looks = Looks(living.client)
    assert looks.look() == 0
    for worker_id in (
        WORKER,
        OTHER_WORKER,
    ):  # Redis answers again after a minute: nobody got a heartbeat through
        age(living.client, worker_id, 60)
    assert looks.look(after=60) == 0
    assert living.held() and dead.held()
    workers.beat(living.client, WORKER, ["default"])
    assert looks.look() == 1
    assert living.held() and not dead.held()
    assert str(Attempt.objects.get().worker_id) == OTHER_WORKER


def seen(
    ages: list[float], beats: list[float] | None = None, every: float = reap_workers.INTERVAL_SECONDS
) -> list[bool]:
    """What is thought of a worker whose heartbeat has these ages, one look after the other."""
    moments = iter(1_000.0 + every * n for n in range(len(ages)))
    late = reap_workers.LateHeartbeats(lambda: next(moments))
    result = []
    for n, its_age in enumerate(ages):
        late.begin_check()
        result.append(late.is_confirmed(workers.Listed(WORKER, beats[n] if beats else 5.0, []), its_age))
    return result


def test_with_redis_there_the_first_look_after_the_lease_finds_it_silent() -> None:
    lease = conf.get().LEASE
    ages = [2.0 * n for n in range(1, 9)]
    assert [its_age > lease for its_age in ages] == [False] * 7 + [True]
    assert seen(ages)[-1]


def test_a_worker_that_beats_however_late_is_not_silent() -> None:
    lease = conf.get().LEASE
    assert not any(seen([lease + 1] * 6, beats=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert seen([lease + 1, lease + 1, 0.1, lease + 1]) == [False, True, False, False]


def test_after_a_pause_of_the_looks_themselves_it_begins_anew() -> None:
    lease = conf.get().LEASE
    assert not any(seen([lease + 1] * 4, every=60.0))
