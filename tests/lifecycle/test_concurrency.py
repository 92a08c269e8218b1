"""Many at the same time: enqueuers, children, operators. Nothing is lost, nothing is handed out twice."""

from __future__ import annotations

import multiprocessing
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection, connections, transaction

from queue_app.domain.states import DeadReason
from queue_app.lifecycle import operate, release
from queue_app.lifecycle.recovery import rebuild, recover
from queue_app.models import Attempt, DeadLetter, Job
from tests.app import tasks
from tests.support.jobs import WORKER, Child, drain, failed, jobs
from tests.support.marks import committed

pytestmark = committed


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do `work(n)` in `count` threads that start at the same moment; their answers in order."""
    gate = threading.Barrier(count)

    def run(n: int) -> Any:
        gate.wait(30)
        try:
            return work(n)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_fifty_enqueuers() -> None:
    class Abandon(Exception):
        pass

    def enqueue(n: int) -> list[str]:
        ids = [tasks.noop.enqueue(n).id]
        with transaction.atomic():
            ids += [r.id for r in tasks.noop.enqueue_many([((n,), {})] * 3)]
            ids.append(tasks.noop.using(priority=n).enqueue(n).id)
        try:
            with transaction.atomic():
                jobs(2)
                raise Abandon
        except Abandon:
            return ids

    ids = [job_id for made in together(50, enqueue) for job_id in made]
    assert len(set(ids)) == 50 * 5
    assert set(map(str, Job.objects.values_list("pk", flat=True))) == set(ids)
    handed_out = drain(1_000)
    assert Counter(handed_out) == Counter(ids)


def test_enqueuers_in_forked_processes() -> None:
    """As a preloading web server does it: what the parent had opened is not the children's to use."""
    (first,) = jobs(1)
    connections.close_all()  # as such a server must, because the socket of a database cannot be shared

    def enqueue() -> None:
        for _ in range(10):
            with transaction.atomic():
                jobs(3)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=enqueue) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 4
    ids = set(map(str, Job.objects.values_list("pk", flat=True)))
    assert len(ids) == 4 * 30 + 1
    assert Counter(drain(1_000)) == Counter(ids | {first})


def test_children_share_a_backlog_without_a_job_twice() -> None:
    ids = jobs(400)

    def work(n: int) -> list[str]:
        child, done = Child(n), []
        while deliveries := child.claim(random.Random(n).randint(1, 20)):
            done += [d.id for d in deliveries]
            assert child.end(*deliveries) == {d.id for d in deliveries}
        return done

    done = [job_id for part in together(8, work) for job_id in part]
    assert sorted(done) == sorted(ids)
    assert Job.objects.filter(state="succeeded", attempt=1).count() == 400
    assert Attempt.objects.count() == 400


def test_cancel_and_claim_at_the_same_time_agree() -> None:
    """A job is either cancelled or handed out; a cancelled one is in nobody's hands."""
    ids = jobs(300)

    def work(n: int) -> set[str]:
        if n % 2:
            return set(operate.cancel(ids[n::4]).done)
        child, got = Child(n), set()
        while deliveries := child.claim(5):
            got |= {d.id for d in deliveries}
        return got

    parts = together(4, work)
    cancelled, claimed = parts[1] | parts[3], parts[0] | parts[2]
    assert not cancelled & claimed
    assert cancelled | claimed == set(ids)
    assert set(map(str, Job.objects.filter(state="cancelled").values_list("pk", flat=True))) == cancelled


def test_a_letter_replayed_by_many_at_once_is_replayed_once() -> None:
    ids = jobs(20)
    child = Child()
    child.end(*child.claim(20), make=lambda d: failed(d, dead_reason=DeadReason.EXHAUSTED))
    answers = together(4, lambda n: operate.replay(DeadLetter.objects.all()).done)
    assert Counter(job_id for done in answers for job_id in done) == Counter(ids)
    assert Counter(drain()) == Counter(ids)


def test_recovery_by_many_at_once_delivers_once() -> None:
    ids = jobs(60)
    dead = Child(1, WORKER)
    dead.claim(30)
    cause = recover.Cause("killed by SIGKILL", running=dict.fromkeys(ids[:5], 1.0))
    together(4, lambda n: recover.take_back(dead.client, dead.holder, ["default"], WORKER, cause))
    assert Counter(drain()) == Counter(ids)
    assert sorted(map(str, Attempt.objects.values_list("job_id", flat=True))) == ids[:5]
    assert set(Job.objects.filter(pk__in=ids[:5]).values_list("deaths", "suspect")) == {(0, True)}


def test_rebuilds_and_sweeps_at_once_put_back_each_job_once() -> None:
    ids = jobs(200)
    client = Child().client
    client.flushall()

    def work(n: int) -> None:
        rebuild.at_once(client)
        release.restore(client, Job.objects.values_list("pk", "queue"))

    together(6, work)
    assert Counter(drain(1_000)) == Counter(ids)
