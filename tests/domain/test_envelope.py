"""What travels with a job besides its arguments: its lane and its meta, from the enqueue to a later attempt."""

from __future__ import annotations

import pytest
import redis

from queue_app import clock
from queue_app.dispatch import keys
from queue_app.domain.ending import Ending, ending
from queue_app.domain.envelope import dump_meta
from queue_app.domain.outcome import Outcome
from queue_app.lifecycle import enqueue, settle
from queue_app.lifecycle.entries import entries_of_waiting
from queue_app.models import Job
from tests.app import tasks
from tests.support.jobs import Child, failed
from tests.support.marks import committed

pytestmark = committed

META = {"trace": "00-ab]cd-01", "by": ["user", 7]}


@pytest.mark.parametrize("count", [1, 3])
def test_lane_and_meta_travel_with_the_job(clean_redis: redis.Redis, count: int) -> None:
    request = enqueue.Request(
        task="tests.app.tasks.noop", queue="default", priority=0, run_after=None, backend="", max_attempts=9,
        timeout=None, fallback_attempts=1, lane="tenant 7", meta=dump_meta(META),
    )  # fmt: skip
    made = enqueue.enqueue(request, ['[["]"],{}]'] * count).ids
    said = ("tenant 7", dump_meta(META))
    assert list(Job.objects.values_list("lane", "meta")) == [said] * count
    assert clean_redis.exists(keys.ready("default", 0, "tenant 7"))
    child = Child()
    first = child.claim(count)
    assert [(d.id, d.lane, d.meta) for d in first] == [(job_id, *said) for job_id in made]
    child.end(*first, make=lambda d: failed(d, run_at=clock.seconds() - 1))
    second = child.claim(count)
    assert sorted((d.id, d.number, d.lane, d.meta) for d in second) == [(i, 2, *said) for i in made]
    assert [d.args for d in second] == [["]"]] * count


def test_a_plain_job_carries_neither(clean_redis: redis.Redis) -> None:
    request = enqueue.Request("tests.app.tasks.noop", "default", 0, None, "", 1, None, 1)
    (job_id,) = enqueue.enqueue(request, ["[[],{}]"]).ids
    raw = clean_redis.hget(keys.body("default"), job_id).decode()
    assert raw.endswith(',null,null,null,""][[],{}]')
    ((_, _, again),) = entries_of_waiting([job_id])
    assert again.replace(" ", "").endswith(',null,null,null,""][[],{}]')


def test_what_a_failure_makes_of_its_job_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def counting(outcome: Outcome) -> Ending:
        made.append(outcome.delivery.id)
        return ending(outcome)

    monkeypatch.setattr(settle, "ending", counting)
    job_id = tasks.noop.enqueue().id
    child = Child()
    child.end(*child.claim(), make=lambda d: failed(d, run_at=clock.seconds() - 1))
    assert made == [job_id]
    assert [(d.id, d.number, d.failures) for d in child.claim()] == [(job_id, 2, 1)]
