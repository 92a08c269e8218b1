"""P1: a committed enqueue runs, a rolled-back one never does, and one transaction is one round trip."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from django.db import connection, transaction

from queue_app import clock
from queue_app.exceptions import InvalidArguments
from queue_app.lifecycle.recovery import sweep
from queue_app.models import Job
from tests.app import dtasks, tasks
from tests.support.jobs import Child, calls, drain, jobs, states
from tests.support.marks import committed

pytestmark = committed


@pytest.fixture
def counted(clean_redis: redis.Redis) -> Iterator[redis.Redis]:
    """A Redis that knows the scripts and the names of queues, and has counted nothing yet."""
    for name in ("default", "mail", "web"):
        jobs(1, task=tasks.noop.using(queue_name=name))
        drain(queue=name)
    clean_redis.config_resetstat()
    yield clean_redis


class Abandon(Exception):
    """Ends a block, and its transaction with it."""


def one() -> str:
    return tasks.noop.enqueue().id


# the caller's transaction


def test_in_autocommit_it_is_there_at_once() -> None:
    job_id = one()
    assert states([job_id]) == ["queued"]
    assert drain() == [job_id]


def test_nothing_starts_before_the_commit() -> None:
    with transaction.atomic():
        job_id = one()
        assert states([job_id]) == ["queued"], "the caller sees its own row"
        assert drain() == []
    assert drain() == [job_id]


def test_a_rolled_back_job_never_existed() -> None:
    with pytest.raises(Abandon), transaction.atomic():
        job_id = one()
        raise Abandon
    assert not Job.objects.filter(pk=job_id).exists()
    assert drain() == []


def test_only_what_survived_the_savepoints_is_pushed_in_order_and_in_one_call(counted: redis.Redis) -> None:
    kept, dropped = [], []
    with transaction.atomic():
        kept.append(one())
        with pytest.raises(Abandon), transaction.atomic():
            dropped.append(one())
            with transaction.atomic():
                dropped.append(one())
            raise Abandon
        with transaction.atomic():
            kept.append(one())
            with pytest.raises(Abandon), transaction.atomic():
                dropped.append(one())
                raise Abandon
            kept.append(one())
        kept += [result.id for result in tasks.noop.enqueue_many([((), {})] * 5)]
        assert calls(counted, "evalsha") == 0
    assert calls(counted, "evalsha") == 1
    assert drain() == kept
    assert Job.objects.filter(pk__in=kept).count() == len(kept)
    assert not Job.objects.filter(pk__in=dropped).exists()


def test_a_whole_transaction_that_fails_at_the_end_pushes_nothing(counted: redis.Redis) -> None:
    with pytest.raises(Abandon), transaction.atomic():
        with transaction.atomic():
            one()
        jobs(3)
        raise Abandon
    assert calls(counted, "evalsha") == 0
    assert drain() == []


def test_transactions_one_after_the_other_do_not_mix() -> None:
    with pytest.raises(Abandon), transaction.atomic():
        one()
        raise Abandon
    with transaction.atomic():
        second = one()
    with transaction.atomic():
        third = one()
    assert drain() == [second, third]


def test_each_queue_of_a_transaction_costs_one_call(counted: redis.Redis) -> None:
    for name in ("mail", "web", "default"):  # a process lists the name of a queue once
        tasks.noop.using(queue_name=name).enqueue()
        drain(queue=name)
    counted.config_resetstat()
    with transaction.atomic():
        for n in range(12):
            tasks.noop.using(queue_name=("mail", "web", "default")[n % 3]).enqueue()
    assert calls(counted, "evalsha") == 3
    assert [len(drain(queue=name)) for name in ("mail", "web", "default")] == [4, 4, 4]


def test_both_apis_share_one_push(counted: redis.Redis) -> None:
    with transaction.atomic():
        ids = [tasks.noop.enqueue().id, dtasks.noop.enqueue().id, one()]
    assert calls(counted, "evalsha") == 1
    assert drain() == ids


def test_what_a_commit_hook_enqueues_is_pushed_as_well() -> None:
    ids: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: ids.append(one()))
        ids.append(one())
        transaction.on_commit(lambda: ids.append(one()))
    assert len(ids) == 3
    assert sorted(drain()) == sorted(ids)


def test_a_failing_hook_of_the_caller_does_not_take_the_jobs_along(monkeypatch: pytest.MonkeyPatch) -> None:
    def hook() -> None:
        raise Abandon

    with pytest.raises(Abandon), transaction.atomic():
        transaction.on_commit(hook)
        job_id = one()
    # Django has stopped running hooks: the row is there, and the sweep pushes it.
    assert states([job_id]) == ["queued"]
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60.0)
    sweep.push_missing_backlog(Child().client)
    assert drain() == [job_id]


def test_under_manual_transaction_management_the_sweep_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    transaction.set_autocommit(False)
    try:
        job_id = one()
        assert drain() == []
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    monkeypatch.setattr(clock.current, "source", lambda source=clock.current.source: source() + 60.0)
    sweep.push_missing_backlog(Child().client)
    assert drain() == [job_id]


def test_threads_with_open_transactions_do_not_mix() -> None:
    mine_is_in, theirs_is_rolled_back = threading.Event(), threading.Event()

    def rolled_back() -> None:
        try:
            mine_is_in.wait(10)
            with pytest.raises(Abandon), transaction.atomic():
                one()
                raise Abandon
        finally:
            connection.close()
            theirs_is_rolled_back.set()

    if connection.vendor == "sqlite":  # one writer at a time: ours must not have begun
        mine_is_in.set()
    thread = threading.Thread(target=rolled_back)
    thread.start()
    if connection.vendor == "sqlite":
        thread.join(10)
    with transaction.atomic():
        job_id = one()
        mine_is_in.set()
        assert theirs_is_rolled_back.wait(10)
    thread.join(10)
    assert drain() == [job_id]


# many


def test_many_keep_their_order_and_cost_one_call(counted: redis.Redis) -> None:
    results = tasks.echo.enqueue_many([((n,), {"square": n * n}) for n in range(300)])
    assert calls(counted, "evalsha") == 1
    child = Child()
    deliveries = child.claim(300)
    assert [d.id for d in deliveries] == [r.id for r in results]
    assert [(d.args, d.kwargs) for d in deliveries] == [([n], {"square": n * n}) for n in range(300)]


def test_many_in_a_long_list_arrive_completely(monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app.lifecycle import enqueue

    monkeypatch.setattr(enqueue, "JOBS_PER_STATEMENT", 40)
    ids = jobs(100)
    assert len(set(ids)) == Job.objects.count() == 100
    assert drain() == ids


@pytest.mark.parametrize(
    "wrong,path",
    [
        (((object(),), {}), r"args\[0\] is of type builtins\.object"),
        (((), {"x": {"y": [1, {2}]}}), r"kwargs\['x'\]\['y'\]\[1\] is of type builtins\.set"),
        (((float("nan"),), {}), r"args\[0\] is nan"),
        (((), {"t": "a\x00b"}), r"kwargs\['t'\] contains the character U\+0000"),
        ((("\ud800",), {}), r"args\[0\] contains a lone surrogate"),
        (((), {"d": {1.5: 2}}), r"kwargs\['d'\] has the key 1.5 of type float"),
        ("xy", r"^Call 2 is 'xy'"),
        ((1, {}), r"^Call 2 is \(1, \{\}\)"),
        (((), []), r"^Call 2 is \(\(\), \[\]\)"),
        (7, r"^Call 2 is 7"),
    ],
)
def test_one_wrong_call_and_none_is_enqueued(wrong: object, path: str) -> None:
    with pytest.raises(InvalidArguments, match=path):
        tasks.noop.enqueue_many([((1,), {}), ((2,), {}), wrong, ((3,), {})])  # type: ignore[list-item]
    assert not Job.objects.exists()
    assert drain() == []


def test_a_database_that_refuses_one_chunk_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import DatabaseError

    from queue_app.domain import ids
    from queue_app.lifecycle import enqueue

    monkeypatch.setattr(enqueue, "JOBS_PER_STATEMENT", 4)
    made = iter([ids.new_text() for _ in range(9)])
    repeated: list[str] = []

    def new_text() -> str:
        repeated.append(next(made) if len(repeated) < 9 else repeated[0])
        return repeated[-1]

    monkeypatch.setattr(ids, "new_text", new_text)
    with pytest.raises(DatabaseError):
        jobs(10)
    assert not Job.objects.exists()
    assert drain() == []


def test_no_calls_no_jobs() -> None:
    assert tasks.noop.enqueue_many([]) == []
    assert not Job.objects.exists()
