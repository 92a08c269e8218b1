"""Very many jobs are due in the same moment: all are in Redis in time, and no row says `queued` before that."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import redis

from queue_app import clock, conf
from queue_app.dispatch import connection, finding, keys, workers
from queue_app.domain import ids
from queue_app.domain.states import JobState
from queue_app.exceptions import StoreUnavailable
from queue_app.lifecycle import release
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance import leader_term
from queue_app.maintenance.leader_term import LeaderTerm
from queue_app.maintenance.load_due import LoadDue
from queue_app.maintenance.promote_due import PromoteDue
from queue_app.models import Job
from tests.support.jobs import Child, drain, states, term_of
from tests.support.marks import committed

pytestmark = committed


def scheduled(count: int, seconds: float, queue: str = "default", **values: Any) -> list[str]:
    """Rows of jobs that are due in the same instant, so many seconds from now, and that Redis has not heard of."""
    at = clock.now() + timedelta(seconds=seconds)
    rows = [
        Job(
            id=ids.new_id(),
            task="tests.app.tasks.noop",
            queue=queue,
            state=JobState.SCHEDULED,
            run_after=at,
            **values,
        )
        for _ in range(count)
    ]
    Job.objects.bulk_create(rows)
    return [str(row.pk) for row in rows]


def travel(patch: pytest.MonkeyPatch, seconds: float) -> None:
    patch.setattr(clock.current, "source", lambda source=clock.current.source: source() + seconds)


@pytest.fixture
def term() -> LeaderTerm:
    client = connection.client()
    rebuild.at_once(client)
    return term_of(client, "a")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few rows, and a run that has time for one part."""
    monkeypatch.setattr(
        release.load_due_part, "__kwdefaults__", release.load_due_part.__kwdefaults__ | {"limit": 100}
    )
    monkeypatch.setattr(release, "JOBS_PER_PUSH", 40)
    monkeypatch.setattr(leader_term, "MAX_RUN_SECONDS", 0.0)


def due(queue: str = "default") -> list[str]:
    """The ids that wait for their time in Redis, soonest first."""
    return connection.client().zrange(keys.due(queue), 0, -1)


def runs(walk: Any, term: LeaderTerm) -> list[int]:
    """What each run does until nothing is left for the next one."""
    counts = []
    while True:
        term.begin_run()
        counts.append(walk.run(term))
        if not term.unfinished:
            return counts


def test_all_of_one_instant_are_loaded_in_parts_one_after_the_other(term: LeaderTerm, small: None) -> None:
    later, found = scheduled(49, 30), scheduled(250, 20)
    far = scheduled(1, conf.get().DUE_HORIZON + 100)
    walk = LoadDue()
    assert runs(walk, term) == [100, 100, 99]
    assert sorted(due()) == sorted(found + later) and due()[:250] == sorted(found)
    assert runs(walk, term) == [0] and states(far) == ["scheduled"]


def test_a_walk_goes_on_where_it_stood_while_new_rows_come_near(
    term: LeaderTerm, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = scheduled(150, 20)
    near = scheduled(30, conf.get().DUE_HORIZON + 5)
    walk = LoadDue()
    assert walk.run(term) == 100 and term.unfinished
    travel(monkeypatch, 10)
    term.begin_run()
    assert walk.run(term) == 80 and not term.unfinished
    assert sorted(due()) == sorted(first + near)


def test_what_has_come_near_is_looked_at_once_and_all_of_it_now_and_then(
    term: LeaderTerm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A push that failed is of a time that was looked at before."""
    walk = LoadDue()
    assert walk.run(term) == 0
    missed = scheduled(3, 20)
    new = scheduled(2, conf.get().DUE_HORIZON + 5)
    travel(monkeypatch, 10)
    assert walk.run(term) == 2 and due() == new
    assert [walk.run(term) for _ in range(5)] == [0, 0, 0, 0, 3]
    assert sorted(due()) == sorted(missed + new)


def test_another_leadership_begins_with_all_that_is_near(term: LeaderTerm) -> None:
    walk = LoadDue()
    assert walk.run(term) == 0
    scheduled(3, 20)
    assert walk.run(term) == 0
    workers.resign(term.client, "a", term.token)
    assert walk.run(term_of(term.client, "a")) == 3


def test_a_row_says_queued_only_when_redis_has_it(term: LeaderTerm, small: None) -> None:
    """Nothing was loaded: an outage. Once a row says `queued`, only the slow walk through the backlog finds it."""
    found = scheduled(100, -5) + scheduled(30, -5, "mail")
    assert runs(PromoteDue(), term) == [40, 40, 40, 10]
    assert set(states(found)) == {"queued"}
    assert sorted(drain(200) + drain(200, "mail")) == sorted(found)


def test_what_redis_refuses_still_waits_for_its_time(term: LeaderTerm) -> None:
    """It is being cancelled; if that fails, the next runs bring it in."""
    found = scheduled(3, -5)
    finding.withdraw(term.client, "default", found[:1])
    assert PromoteDue().run(term) == 2
    assert states(found) == ["scheduled", "queued", "queued"]
    assert drain() == found[1:]
    term.client.zadd(keys.cancelled("default"), {found[0]: 1.0})  # long ago
    assert PromoteDue().run(term) == 1
    assert states(found) == ["queued"] * 3 and drain(serial=98) == found[:1]


def test_one_that_a_child_has_claimed_says_queued_too(term: LeaderTerm) -> None:
    found = scheduled(2, -5)
    assert LoadDue().run(term) == 2
    assert len(Child().claim()) == 1
    assert PromoteDue().run(term) == 2 and states(found) == ["queued"] * 2


def test_without_redis_no_row_is_touched(term: LeaderTerm, monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app.dispatch import listing

    def fail(*args: Any) -> Any:
        raise StoreUnavailable("cut off")

    found = scheduled(3, -5)
    with monkeypatch.context() as patched:
        patched.setattr(listing, "unknown", fail)
        with pytest.raises(StoreUnavailable):
            PromoteDue().run(term)
    assert states(found) == ["scheduled"] * 3


def test_after_a_loss_of_the_data_the_rows_are_left_to_the_rebuild(
    term: LeaderTerm, clean_redis: redis.Redis
) -> None:
    found = scheduled(3, -5)
    clean_redis.flushall()
    client = connection.client()
    lost = term_of(client, "a")
    assert LoadDue().run(lost) == PromoteDue().run(lost) == 0
    assert states(found) == ["scheduled"] * 3


def test_with_nothing_due_each_walk_is_one_question(term: LeaderTerm, django_assert_num_queries: Any) -> None:
    scheduled(3, conf.get().DUE_HORIZON + 100)
    with django_assert_num_queries(1):
        LoadDue().run(term)
    with django_assert_num_queries(1):
        PromoteDue().run(term)
