"""What an enqueue makes of its options and arguments: rows, bodies in Redis, and refusals that name what is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import redis

from queue_app import clock, conf
from queue_app.dispatch import keys
from queue_app.domain import serialization
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome, decide
from queue_app.exceptions import InvalidArguments, InvalidOption, PayloadTooLarge, Retry, Snooze
from queue_app.lifecycle import claim as claiming
from queue_app.lifecycle.entries import entries_of_waiting
from queue_app.models import Job, Queue
from queue_app.tasks import registry
from tests.app import dtasks, tasks
from tests.support.jobs import Child, drain, failed, states
from tests.support.marks import committed

pytestmark = committed


# options and payloads


def test_priorities_run_highest_first_and_equal_ones_in_order() -> None:
    order = [0, 5, -100, 100, 5, 0, -1, 1, 100]
    ids = [tasks.noop.using(priority=p).enqueue().id for p in order]
    expected = [ids[i] for i in sorted(range(len(order)), key=lambda i: (-order[i], i))]
    assert drain() == expected


def test_defaults_come_from_the_call_then_the_queue_then_the_settings() -> None:
    Queue.objects.create(name="mail", max_attempts=7, timeout=12.5)
    ids = [
        tasks.noop.enqueue().id,
        tasks.noop.using(queue_name="mail").enqueue().id,
        tasks.noop.using(queue_name="mail", max_attempts=2, timeout=3).enqueue().id,
        dtasks.noop.enqueue().id,
    ]
    found = [(j.max_attempts, j.timeout) for j in (Job.objects.get(pk=i) for i in ids)]
    assert found == [(4, None), (7, 12.5), (2, 3.0), (1, None)]


def test_a_changed_default_of_a_queue_counts_at_once_in_this_process() -> None:
    assert Job.objects.get(pk=tasks.noop.enqueue().id).max_attempts == 4
    Queue.objects.create(name="default", max_attempts=9)
    assert Job.objects.get(pk=tasks.noop.enqueue().id).max_attempts == 9


def test_delays_are_kept_to_the_microsecond(clean_redis: redis.Redis) -> None:
    at = clock.from_seconds(round(clock.seconds()) + 30.123457)
    job_id = tasks.noop.using(run_after=at).enqueue().id
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.run_after) == ("scheduled", at)
    assert clean_redis.zscore(keys.due("default"), job_id) == pytest.approx(at.timestamp(), abs=1e-6)


def test_a_time_that_has_passed_is_now() -> None:
    job_id = tasks.noop.using(run_after=-5).enqueue().id
    assert states([job_id]) == ["queued"]
    assert drain() == [job_id]


@pytest.mark.parametrize(
    "at",
    [
        datetime(2999, 5, 6, 7, 8, 9, 123_457, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 14, tzinfo=timezone(timedelta(hours=14))),
        datetime(1, 1, 2, 0, 0, 0, 1, tzinfo=UTC),
    ],
)
def test_a_time_far_off_is_kept_as_it_is(at: datetime, clean_redis: redis.Redis) -> None:
    task = tasks.noop.using(run_after=at)
    ids = [task.enqueue().id, *(result.id for result in task.enqueue_many([((), {})] * 2))]
    api = dtasks.noop.using(run_after=at).enqueue()
    assert dtasks.noop.get_result(api.id).task.run_after == at
    future = at > clock.now()
    for job in Job.objects.all():
        assert (job.run_after, job.state) == (at, "scheduled" if future else "queued")
    assert (clean_redis.exists(keys.body("default")) == 0) is future, (
        "the record keeps it until its time is near"
    )
    assert set(drain()) == (set() if future else {*ids, api.id})
    entries = entries_of_waiting([*ids, api.id])
    assert [round(entry[1], 3) for entry in entries] == [round(at.timestamp(), 3)] * 4


def test_a_retry_far_off_is_kept() -> None:
    at = datetime(2999, 5, 6, tzinfo=UTC)
    for error in (Retry(after=at), Snooze(at), Retry(after=10**400)):
        job_id = tasks.echo.enqueue().id
        child, declared = Child(), registry.look_up("tests.app.tasks.echo")

        def fail(delivery: Delivery, error: Exception = error, declared: Any = declared) -> Outcome:
            run_at = decide(declared.policy, delivery, error, clock.seconds()).run_at
            return failed(delivery, run_at=run_at)

        assert child.end(*child.claim(), make=fail) == {job_id}
        job = Job.objects.get(pk=job_id)
        assert (job.state, job.run_after) == ("retrying", at if error.after is at else clock.LATEST)
        assert drain() == []


@pytest.mark.parametrize(
    "options,message",
    [
        ({"priority": 101}, "priority is 101; use a whole number from -100 to 100"),
        ({"priority": True}, "priority is True"),
        ({"priority": "urgent"}, "priority is 'urgent'"),
        ({"queue_name": "no spaces"}, "queue_name is 'no spaces'"),
        ({"max_attempts": 0}, "max_attempts is 0; use a whole number from 1 to 1000"),
        ({"timeout": 0}, "timeout is 0; use a number of seconds"),
        ({"run_after": "tomorrow"}, "run_after is 'tomorrow'"),
        ({"run_after": 1e12}, "use a time between 0001-01-02 and 9999-12-31"),
    ],
)
def test_wrong_options_are_refused_by_name(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        tasks.noop.using(**options).enqueue()  # type: ignore[arg-type]
    assert not Job.objects.exists()


def test_a_naive_time_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidOption, match=r"has no time zone; use django\.utils\.timezone\.now\(\)"):
        tasks.noop.using(run_after=datetime(2030, 1, 1))


def test_large_arguments_stay_in_the_database(clean_redis: redis.Redis) -> None:
    limit = conf.get().BODY_LIMIT
    at_limit = "x" * (limit - len('[[""],{}]'))
    small, large = tasks.echo.enqueue(at_limit).id, tasks.echo.enqueue(at_limit + "é").id
    bodies = clean_redis.hgetall(keys.body("default"))
    assert len(bodies[small.encode()]) > limit > 1_000 > len(bodies[large.encode()])
    child = Child()
    deliveries = child.claim(2)
    assert [d.args for d in deliveries] == [[at_limit], None]
    assert claiming.complete(deliveries) == []
    assert [d.args for d in deliveries] == [[at_limit], [at_limit + "é"]]


def test_large_arguments_of_a_row_that_has_gone_are_not_run() -> None:
    job_id = tasks.echo.enqueue("x" * (conf.get().BODY_LIMIT + 1)).id
    (delivery,) = Child().claim()
    Job.objects.filter(pk=job_id).delete()
    assert claiming.complete([delivery]) == [delivery]


def test_too_large_arguments_are_refused_with_both_sizes() -> None:
    limit = conf.get().PAYLOAD_LIMIT
    room = limit - len('[[""],{}]')
    assert tasks.noop.enqueue("x" * room).id
    message = rf"{limit + 1:,} bytes of JSON; PAYLOAD_LIMIT is {limit:,}\. Store the data and pass its id"
    with pytest.raises(PayloadTooLarge, match=message):
        tasks.noop.enqueue("x" * (room + 1))
    with pytest.raises(PayloadTooLarge):
        tasks.noop.enqueue("é" * (room // 2 + 1))  # bytes count, not characters
    assert Job.objects.count() == 1


def test_arguments_that_contain_themselves_are_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(
        InvalidArguments, match=r"^args\[0\].* is nested more than 100 levels deep, or contains itself"
    ):
        tasks.noop.enqueue(loop)


def test_arguments_arrive_as_they_were_passed() -> None:
    given = {"ü\t\\\"'\n\r\u2028": [1e22, -0.0, 10**30, None, True, {}, [], "\\N", "{a,b}", "%s", "\x7f"]}
    ids = [r.id for r in tasks.echo.enqueue_many([((given,), {"k": given}), (([given],), {})])]
    ids.append(tasks.echo.enqueue(given).id)
    assert [d.args for d in Child().claim(3)] == [[given], [[given]], [given]]
    assert [serialization.load(j.payload)[0] for j in (Job.objects.get(pk=i) for i in ids)] == [
        [given],
        [[given]],
        [given],
    ]
    assert Job.objects.get(pk=ids[0]).kwargs == {"k": given}
