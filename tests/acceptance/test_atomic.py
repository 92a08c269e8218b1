"""P5, with real workers: whatever is killed, an atomic job's effects are there once if it succeeded, and else never."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from bench.runtime.servers import PostgresqlServer
from bench.runtime.waiting import wait_until
from bench.runtime.workers import WorkerProcess
from queue_app.dispatch import connection, workers
from queue_app.domain.states import FINAL
from queue_app.models import Attempt, Job, Worker
from tests.app import atomic_tasks
from tests.app.models import Effect
from tests.support.marks import committed
from tests.support.whole_workers import StartWorker, attempts, kill, lines, pids, wait_for_end, wait_for_lines

pytestmark = committed

#: Deaths and lost connections are the point of these tests: no job may be put aside for them.
PATIENT: dict[str, Any] = {"POISON_AFTER": 1_000}


def enqueue(count: int, failing: int = 0) -> list[str]:
    """Jobs that leave two effects, and some that leave one and fail, mixed."""
    task = atomic_tasks.effect.using(max_attempts=1_000)
    made = [result.id for result in task.enqueue_many([((0.002,), {})] * count)]
    made += [r.id for r in atomic_tasks.effect_and.enqueue_many([(("raise",), {})] * failing)]
    return made


def during(ids: list[str], disturb: Callable[[], None], every: int) -> None:
    """Disturb the workers again and again, whatever they do at that moment, until most of these jobs have ended."""
    for milestone in range(every, len(ids) - every, every):
        wait_until(lambda m=milestone: ended(ids) >= m, 60, lambda: f"{ended(ids)} of {len(ids)} jobs")  # type: ignore[misc]
        disturb()


def ended(ids: list[str]) -> int:
    return Job.objects.filter(pk__in=ids, state__in=sorted(FINAL)).count()


def kill_one_of(process: WorkerProcess, dice: random.Random) -> None:
    kill(dice.choice(wait_until(lambda: pids(process), 60, "a child")))


def effects_are_exact(ids: list[str]) -> None:
    """The effects are those of the jobs that succeeded, each once; and each success is recorded once."""
    succeeded = [
        str(pk) for pk in Job.objects.filter(pk__in=ids, state="succeeded").values_list("pk", flat=True)
    ]
    expected = Counter((job_id, label) for job_id in succeeded for label in ("first", "second"))
    assert Counter(Effect.objects.values_list("job", "label")) == expected
    assert Attempt.objects.filter(state="succeeded").count() == len(succeeded)


@pytest.mark.parametrize("slots", [1, 3])
def test_children_killed_at_random_moments(worker: StartWorker, slots: int) -> None:
    process = worker("--processes", "2", "--slots", str(slots), settings=PATIENT)
    ids = enqueue(300, failing=30)
    dice = random.Random(slots)
    during(ids, lambda: kill_one_of(process, dice), every=30)
    assert Counter(wait_for_end(ids)) == {"succeeded": 300, "failed": 30}
    effects_are_exact(ids)
    assert Attempt.objects.filter(state="lost").exists()


def test_connections_cut_at_random_moments(worker: StartWorker, postgresql_process: PostgresqlServer) -> None:
    process = worker("--processes", "2", "--slots", "2", settings=PATIENT)
    ids = enqueue(300)
    own = connections["default"]
    own.ensure_connection()
    with postgresql_process.connect(autocommit=True) as admin:

        def cut() -> None:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> ALL (%s)",
                [own.settings_dict["NAME"], [own.connection.info.backend_pid, admin.info.backend_pid]],
            )

        during(ids, cut, every=15)
    assert Counter(wait_for_end(ids)) == {"succeeded": 300}
    effects_are_exact(ids)
    assert process.stop() == 0


def test_a_database_killed_at_any_moment(worker: StartWorker, postgresql_process: PostgresqlServer) -> None:
    """And started again: atomic jobs wait for it, or are made up for."""
    name = connections["default"].settings_dict["NAME"]
    with connections["default"].cursor() as cursor:  # the tests' server forgets commits otherwise
        cursor.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = on')
    connections.close_all()
    process = worker("--processes", "2", "--slots", "2", settings=PATIENT)
    ids = enqueue(200)
    for milestone in (40, 100):
        wait_until(lambda m=milestone: ended(ids) >= m, 60, "some jobs")  # type: ignore[misc]
        postgresql_process.kill()
        connections.close_all()
        process.wait_for("Lost the database: ")
        postgresql_process.start()
    assert Counter(wait_for_end(ids)) == {"succeeded": 200}
    effects_are_exact(ids)
    assert process.stop() == 0


def test_a_worker_frozen_past_its_lease(worker: StartWorker, tmp_path: Path) -> None:
    """On PostgreSQL another one takes over, and what the frozen one then commits is rolled back. On SQLite a frozen
    transaction keeps everybody else from writing: nobody can take over, and it goes on where it was."""
    started = [worker(settings={"LEASE": 1.0}) for _ in range(2)]
    wait_until(lambda: Worker.objects.count() == 2, 60, "the rows of both")
    job_id = atomic_tasks.wait_for_file.enqueue(str(tmp_path), "started", "release").id
    wait_for_lines(tmp_path, "started")
    pid = int(lines(tmp_path, "started")[0][0])
    frozen, other = sorted(started, key=lambda process: os.getpgid(pid) != process.pid)
    os.killpg(frozen.pid, signal.SIGSTOP)
    client = connection.client()
    wait_until(
        lambda: (
            min((w.beat for w in workers.listed(client)), default=0.0) < workers.now(client) - 1.0
            or len(lines(tmp_path, "started")) == 2
        ),
        60,
        "the end of its lease",
    )
    if connections["default"].vendor == "sqlite":
        (tmp_path / "release").touch()
        os.killpg(frozen.pid, signal.SIGCONT)
        assert wait_for_end([job_id]) == ["succeeded"]
    else:
        wait_for_lines(tmp_path, "started", 2)
        (tmp_path / "release").touch()
        assert wait_for_end([job_id]) == ["succeeded"]
        os.killpg(frozen.pid, signal.SIGCONT)
        frozen.wait_for("does not count: the record expects another delivery")
        assert attempts(job_id) == ["lost", "succeeded"]
    assert [process.stop() for process in (frozen, other)] == [0, 0]
    assert list(Effect.objects.values_list("job", flat=True)) == [job_id]
    assert Attempt.objects.filter(state="succeeded").count() == 1


def test_every_end_of_an_atomic_job_in_threads(worker: StartWorker) -> None:
    process = worker("--slots", "3")
    good = [
        atomic_tasks.effect.enqueue().id,
        atomic_tasks.effect_too_long.enqueue(True).id,
        atomic_tasks.effect_then.enqueue("raise").id,
        atomic_tasks.effect_then.enqueue("snooze").id,
        atomic_tasks.api_effect.enqueue(False).id,
    ]
    bad = [
        atomic_tasks.effect_too_long.enqueue(False).id,
        atomic_tasks.effect_for_ever.enqueue().id,
        atomic_tasks.effect_and.enqueue("close").id,
        atomic_tasks.effect_and.enqueue("leave_open").id,
        atomic_tasks.api_effect.enqueue(True).id,
    ]
    more = atomic_tasks.enqueue_inside.enqueue().id
    assert wait_for_end([*good, more]) == ["succeeded"] * 6
    assert wait_for_end(bad) == ["failed"] * 5
    (inside,) = Job.objects.get(pk=more).return_value
    assert wait_for_end([inside]) == ["succeeded"]
    found = Counter(Effect.objects.values_list("job", flat=True))
    assert found == {good[0]: 2} | dict.fromkeys(good[1:], 1)
    assert atomic_tasks.api_effect.get_result(good[-1]).return_value == "left"
    assert attempts(bad[1]) == ["timed_out"]
    assert process.stop() == 0
