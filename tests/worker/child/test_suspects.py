"""Suspects: how their mark goes through both stores, and how the slots of a child run one alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from bench.runtime.waiting import wait_until
from queue_app import conf
from queue_app.dispatch import connection, keys
from queue_app.domain import ids
from queue_app.domain.delivery import Delivery
from queue_app.lifecycle import operate
from queue_app.lifecycle.recovery import rebuild, recover
from queue_app.models import Attempt, Job
from queue_app.queries.queues import depths_of
from queue_app.worker.child import slots
from queue_app.worker.child.runner import Runner
from queue_app.worker.child.slots import SuspectWait, Threads
from queue_app.worker.config import QueueChoice, WorkerConfig
from queue_app.worker.shared_state import SharedState
from tests.app import tasks
from tests.support.jobs import Child, failed, jobs, states
from tests.support.marks import committed

pytestmark = committed


def take_back(child: Child, *running: str, **more: Any) -> None:
    cause = recover.Cause("killed by SIGKILL", running=dict.fromkeys(running, 1.0), **more)
    recover.take_back(child.client, child.holder, ["default"], child.worker_id, cause)


def marks() -> dict[str, tuple[int, bool]]:
    return {
        str(pk): (deaths, suspect)
        for pk, deaths, suspect in Job.objects.values_list("pk", "deaths", "suspect")
    }


def test_the_mark_stays_until_its_job_has_ended_an_attempt() -> None:
    one, other = jobs(2)
    first = Child(1)
    first.claim(2)
    take_back(first, one, other)
    assert marks() == {one: (0, True), other: (0, True)}
    assert Attempt.objects.filter(state="lost").count() == 2

    second = Child(2)
    delivery, beside = second.claim(2)
    assert (delivery.suspect, delivery.deaths, beside.suspect) == (True, 0, True)
    take_back(second, one)  # alone: this counts; the other one had not begun
    assert marks() == {one: (1, True), other: (0, True)}

    third = Child(3)
    beside, delivery = third.claim(2)
    assert (delivery.id, delivery.suspect, delivery.deaths, beside.suspect) == (one, True, 1, True)
    third.end(beside)
    third.end(delivery, make=lambda d: failed(d, run_at=1.0))
    assert marks() == {one: (1, False), other: (0, False)}
    (again,) = Child(4).claim()
    assert (again.id, again.suspect) == (one, False)


def test_the_mark_is_there_after_redis_has_lost_its_data(clean_redis: redis.Redis) -> None:
    one, other, innocent = jobs(3)
    child = Child(1)
    child.claim(2)
    take_back(child, one, other)
    clean_redis.flushall()
    rebuild.at_once(connection.client())
    assert {d.id: d.suspect for d in Child(2).claim(3)} == {one: True, other: True, innocent: False}


def test_a_death_without_blame_clears_no_mark() -> None:
    one, other = jobs(2)
    child = Child(1)
    child.claim(2)
    take_back(child, one, other)
    child = Child(2)
    child.claim(2)
    take_back(child, one, other, blameless=True)
    assert marks() == {one: (0, True), other: (0, True)}


def test_a_poisonous_job_that_is_replayed_runs_alone() -> None:
    (job_id,) = jobs(1)
    for serial in range(1, conf.get().POISON_AFTER + 1):
        child = Child(serial)
        child.claim()
        take_back(child, job_id)
    assert states([job_id]) == ["failed"]
    operate.replay(jobs=[job_id])
    (delivery,) = Child(9).claim()
    assert (delivery.suspect, delivery.deaths) == (True, 0)


# slots


class Slots:
    """The slots of a child, with all that belongs to it but its claims."""

    def __init__(self, count: int = 2) -> None:
        self.child = Child(1, ids.new_text())
        self.stopping = False
        self.shared = SharedState(1, count)
        config = WorkerConfig(self.child.worker_id, QueueChoice.parse("default"), slots=count)
        self.runner = Runner(config, self.shared, 0, self.child.holder, lambda: self.stopping)
        self.runner.recorder.start()
        self.threads = Threads(self.runner, lambda: self.stopping, count)

    def claim(self, count: int = 1) -> list[Delivery]:
        recheck_count = self.runner.preflight.recheck_count
        found = self.child.claim(count)
        self.runner.add_claims(found, recheck_count)
        return found

    def stop(self) -> None:
        self.stopping = True
        self.threads.stop()
        self.runner.stop()


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slots]:
    monkeypatch.setattr(slots, "SUSPECT_WAIT_SECONDS", 0.1)
    made = Slots()
    yield made
    made.stop()


def suspect(task: Any = tasks.noop, *args: Any) -> str:
    """A job that was beside a killer, at the end of its queue."""
    job_id: str = task.enqueue(*args).id
    first = Child(1, ids.new_text())
    (delivery,) = [d for d in first.claim(100) if d.id == job_id]
    take_back(first, job_id, "another")
    assert Job.objects.get(pk=job_id).suspect and delivery.number == 1
    return job_id


def ended(*job_ids: str) -> None:
    wait_until(lambda: set(states(job_ids)) == {"succeeded"}, 30, lambda: f"their end: {states(job_ids)}")


def test_a_suspect_waits_until_the_child_is_empty_and_nothing_starts_beside_it(
    child: Slots, tmp_path: Path
) -> None:
    slots_before = tasks.wait_for_file.enqueue(str(tmp_path), "before", "release").id
    alone = suspect(tasks.wait_for_file, str(tmp_path), "alone", "go")
    after = tasks.note.enqueue(str(tmp_path), "after").id
    claimed = child.claim(3)
    assert {d.id: d.suspect for d in claimed} == {slots_before: False, alone: True, after: False}
    child.threads._suspect_wait._since[alone] = (
        time.monotonic() - 60
    )  # it has waited for long: so does this child
    loop = threading.Thread(target=child.threads.run, args=[claimed])
    loop.start()
    wait_until((tmp_path / "after").exists, 30, "what was claimed with it starts before it")
    wait_until(lambda: child.shared.is_exclusive(0), 30, "the child is kept free")
    assert [r.id for r in child.shared.running(0)] == [slots_before]
    assert not (tmp_path / "alone").exists()
    (tmp_path / "release").touch()
    wait_until((tmp_path / "alone").exists, 30, "it starts")
    assert [r.id for r in child.shared.running(0)] == [alone]
    assert loop.is_alive() and child.shared.is_exclusive(0), "nothing is claimed while it runs"
    (tmp_path / "go").touch()
    loop.join(30)
    assert not loop.is_alive() and not child.shared.is_exclusive(0)
    ended(slots_before, alone, after)
    assert not Job.objects.get(pk=alone).suspect


def test_behind_a_long_job_it_is_put_off_and_the_others_go_on(child: Slots, tmp_path: Path) -> None:
    long = tasks.wait_for_file.enqueue(str(tmp_path), "long", "release").id
    child.threads.run(child.claim())
    job_id = suspect()
    child.threads.run(child.claim())
    assert (child.child.held(), child.shared.is_exclusive(0)) == ({long}, False)
    due: Any = connection.client().zrange(keys.due("default"), 0, -1, withscores=True)
    assert [member for member, _ in due] == [job_id] and 0 < due[0][1] - time.time() < 0.2
    other = jobs(1)[0]
    child.threads.run(child.claim())
    ended(other)
    assert states([job_id]) == ["queued"] and not Attempt.objects.filter(job_id=job_id, number=2).exists()
    (tmp_path / "release").touch()
    ended(long)
    (again,) = wait_until(child.claim, 30, "it may be claimed again")
    assert (again.id, again.suspect) == (job_id, True)
    child.threads.run([again])
    ended(job_id)


def test_of_two_suspects_one_is_left_to_others(child: Slots, tmp_path: Path) -> None:
    one, other = suspect(tasks.wait_for_file, str(tmp_path), "one", "go"), suspect()
    loop = threading.Thread(target=child.threads.run, args=[child.claim(2)])
    loop.start()
    wait_until((tmp_path / "one").exists, 30, "the first starts")
    assert [d.id for d in Child(80).claim(5)] == [other]
    (tmp_path / "go").touch()
    loop.join(30)
    ended(one)


def test_a_child_that_is_told_to_stop_gives_it_back(child: Slots, tmp_path: Path) -> None:
    long = tasks.wait_for_file.enqueue(str(tmp_path), "long", "release").id
    child.threads.run(child.claim())
    job_id = suspect()
    child.threads._suspect_wait._since[job_id] = time.monotonic() - 60
    loop = threading.Thread(target=child.threads.run, args=[child.claim()])
    loop.start()
    wait_until(lambda: child.shared.is_exclusive(0), 30, "it waits for the long one")
    child.stopping = True
    loop.join(30)
    child.runner.give_back()
    assert [d.id for d in Child(80).claim(5)] == [job_id]
    (tmp_path / "release").touch()
    ended(long)


def test_a_suspect_that_was_cancelled_while_it_waited_does_not_begin(child: Slots, tmp_path: Path) -> None:
    long = tasks.wait_for_file.enqueue(str(tmp_path), "long", "release").id
    child.threads.run(child.claim())
    job_id = suspect(tasks.note, str(tmp_path), "begun")
    child.threads._suspect_wait._since[job_id] = time.monotonic() - 60
    loop = threading.Thread(target=child.threads.run, args=[child.claim()])
    loop.start()
    wait_until(lambda: child.shared.is_exclusive(0), 30, "it waits for the long one")
    assert operate.cancel([job_id]).requested == [job_id]
    child.shared.request_recheck(0)  # as its keeper does when it hears of it
    (tmp_path / "release").touch()
    ended(long)
    wait_until(lambda: states([job_id]) == ["cancelled"], 30, "its end")
    loop.join(30)
    assert not (tmp_path / "begun").exists()
    assert not any(depths_of(["default"])["default"].values())


def test_a_suspect_that_was_cancelled_before_others_began_does_not_begin(
    child: Slots, tmp_path: Path
) -> None:
    """One of those that begin while it waits hears of the cancellation."""
    folder = str(tmp_path)
    long = [tasks.wait_for_file.enqueue(folder, name, f"release-{name}").id for name in ("a", "b")]
    heard = tasks.note.enqueue(folder, "heard").id
    job_id = suspect(tasks.note, folder, "begun")
    child.threads._suspect_wait._since[job_id] = time.monotonic() - 60
    loop = threading.Thread(target=child.threads.run, args=[child.claim(4)])
    loop.start()
    wait_until(lambda: len(child.shared.running(0)) == 2, 30, "both slots are busy")
    assert operate.cancel([job_id]).requested == [job_id]
    child.shared.request_recheck(0)
    (tmp_path / "release-a").touch()
    wait_until((tmp_path / "heard").exists, 30, "another one begins")
    (tmp_path / "release-b").touch()
    loop.join(30)
    ended(*long, heard)
    assert states([job_id]) == ["cancelled"] and not (tmp_path / "begun").exists()


def test_what_was_cancelled_on_its_way_into_a_slot_does_not_begin(child: Slots, tmp_path: Path) -> None:
    """Another slot hears of it between the claim and the backlog, or between the backlog and the slot."""
    other = tasks.note.enqueue(str(tmp_path), "other").id
    job_id = tasks.note.enqueue(str(tmp_path), "begun").id
    first, second = child.claim(2)
    assert operate.cancel([job_id]).requested == [job_id]
    child.shared.request_recheck(0)
    child.runner.run_one(0, first)
    child.runner.run_one(1, second)
    ended(other)
    assert states([job_id]) == ["cancelled"] and not (tmp_path / "begun").exists()


def test_patience_grows_with_the_time_that_this_takes() -> None:
    patience = SuspectWait()
    assert patience.of("a", 100.0) == slots.SUSPECT_WAIT_SECONDS
    assert patience.of("a", 102.0) == 2.0
    assert patience.of("b", 102.0) == slots.SUSPECT_WAIT_SECONDS
    assert patience.of("a", 160.0) == 60.0
    patience.over("a")
    assert patience.of("a", 161.0) == slots.SUSPECT_WAIT_SECONDS
