"""The floor: what one client gets out of the bare stores, with the product's own tables and script."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median

from bench.stores import Stores
from queue_app import clock
from queue_app.dispatch import queues
from queue_app.domain import ids
from queue_app.lifecycle.entries import entries_of_new
from queue_app.models.sql.rows import NewJobs

COLUMNS = (
    "id, task, queue, priority, state, payload, backend, run_after, max_attempts, timeout, attempt, failures,"
    " deaths, enqueued_at"
)
VALUES = "%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0, 0, 0, %s"
INSERT = f"INSERT INTO queue_app_job ({COLUMNS}) VALUES ({VALUES})"  # noqa: S608 - constants
COPY_JOBS = f"COPY queue_app_job ({COLUMNS}) FROM STDIN"
COPY_ATTEMPTS = (
    "COPY queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error,"
    " traceback) FROM STDIN"
)
SETTLE = (
    "UPDATE queue_app_job SET state = 'succeeded', attempt = attempt + 1, started_at = %s, last_attempted_at = %s,"
    " finished_at = %s, result = 'null', worker_id = %s WHERE id = ANY(%s) AND attempt = 0 AND state = 'queued'"
)
COPY_ROWS, SETTLE_ROWS = 1_000, 500


def insert_commit(stores: Stores, seconds: float) -> float:
    """INSERT one row and commit, again and again: rows a second."""
    with stores.connect() as connection:
        numbers = itertools.count()

        def insert() -> None:
            connection.execute(INSERT, _values(next(numbers)))

        return rate(insert, seconds)


def copy(stores: Stores, rows: int) -> float:
    """COPY 1,000 rows and commit, again and again until there are `rows`: rows a second."""
    blocks = [_copy_text(count) for count in _parts(rows, COPY_ROWS)]
    with stores.connect() as connection, connection.cursor() as cursor:
        began = time.perf_counter()
        for text, _ in blocks:
            with cursor.copy(COPY_JOBS) as target:
                target.write(text)
        return rows / (time.perf_counter() - began)


def settle(stores: Stores, rows: int) -> float:
    """Settle jobs in groups of 500, each a COPY of attempts and an UPDATE of jobs in one transaction: jobs a second."""
    groups = [_copy_text(count) for count in _parts(rows, SETTLE_ROWS)]
    worker = ids.new_text()
    with stores.connect() as connection, connection.cursor() as cursor:
        for text, _ in groups:
            with cursor.copy(COPY_JOBS) as target:
                target.write(text)
        stores.analyze()
        now = datetime.now(UTC)
        at = now.isoformat()
        prepared = [
            ("".join(f"{i}\t1\tsucceeded\t{worker}\t{at}\t{at}\t\t\t\n" for i in names), names)
            for _, names in groups
        ]
        began = time.perf_counter()
        for attempts, names in prepared:
            with connection.transaction():
                with cursor.copy(COPY_ATTEMPTS) as target:
                    target.write(attempts)
                cursor.execute(SETTLE, (now, now, now, worker, names))
        return rows / (time.perf_counter() - began)


def redis_script(stores: Stores, seconds: float) -> float:
    """EVALSHA of the script that pushes, with one job: calls a second."""
    body = entries_of_new(_jobs(1))[0][2]
    with stores.client() as client:
        return rate(lambda: queues.push(client, "default", [(ids.new_text(), 0.0, body)]), seconds)


def paced(stores: Stores, jobs: int, every: float) -> tuple[float, float]:
    """Milliseconds (medians) of an INSERT with its commit, and of a command of Redis, each after a pause as long as
    between the jobs whose latency is measured: what wakes up from idle is slower than what runs on."""
    inserts, commands = [], []
    with stores.connect() as connection, stores.client() as client:
        for number in range(jobs):
            time.sleep(every / 2)
            began = time.perf_counter()
            connection.execute(INSERT, _values(number))
            inserts.append((time.perf_counter() - began) * 1000)
            time.sleep(every / 2)
            began = time.perf_counter()
            client.ping()
            commands.append((time.perf_counter() - began) * 1000)
    return median(inserts), median(commands)


def rate(call: Callable[[], object], seconds: float) -> float:
    """How often a second `call` can be made, one after the other."""
    call()
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        call()
        count += 1
    return count / passed


def _jobs(count: int) -> NewJobs:
    return NewJobs(
        task="bench.tasks.noop",
        queue="default",
        priority=0,
        state="queued",
        backend="default",
        run_after=None,
        max_attempts=1,
        timeout=None,
        enqueued_at=clock.now(),
        ids=[ids.new_text() for _ in range(count)],
        payloads=[f"[[{number}],{{}}]" for number in range(count)],
    )


def _values(number: int) -> tuple[object, ...]:
    j = _jobs(1)
    return (
        j.ids[0], j.task, j.queue, j.priority, j.state, f"[[{number}],{{}}]", j.backend, j.run_after, j.max_attempts,
        j.timeout, j.enqueued_at,
    )  # fmt: skip


def _copy_text(count: int) -> tuple[str, list[str]]:
    """New rows in COPY's text format, and their ids."""
    j = _jobs(count)
    text = "".join(
        f"{job_id}\t{j.task}\t{j.queue}\t{j.priority}\t{j.state}\t{payload}\t{j.backend}\t\\N\t{j.max_attempts}"
        f"\t\\N\t0\t0\t0\t{j.enqueued_at.isoformat()}\n"
        for job_id, payload in zip(j.ids, j.payloads, strict=True)
    )
    return text, j.ids


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def read_and_push(stores: Stores) -> float:
    """All waiting rows read by one bare client, and written to Redis, 2,000 at a time: a hash of bodies, a list of ids.

    Returns:
        Rows a second.
    """
    with stores.connect() as connection, stores.client() as client:
        began, count = time.perf_counter(), 0
        with connection.transaction(), connection.cursor(name="bench") as cursor:
            cursor.execute(
                "SELECT id::text, task || payload FROM queue_app_job WHERE state = 'queued' ORDER BY priority DESC, id"
            )
            while rows := cursor.fetchmany(2_000):
                pipe = client.pipeline(transaction=False)
                pipe.hset("bench:body", mapping=dict(rows))
                pipe.rpush("bench:ready", *[row[0] for row in rows])
                pipe.execute()
                count += len(rows)
        return count / (time.perf_counter() - began)
