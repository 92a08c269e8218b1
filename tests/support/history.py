"""A record as an old installation has it, made by the database itself: a million rows in a minute.

Of the jobs 96 % succeeded. Those that failed are spread over all times, those that were cancelled lie together, long
ago; the newest 1 % holds what waits and runs. Tasks and queues differ in frequency by a factor of a hundred. The
constants below are made for hard searches.
"""

from __future__ import annotations

import time

from django.db import connection

#: 0.01 % of the jobs each; one single job, an old one; and a third of what was made for a while, long ago.
RARE, RARE_QUEUE = "shop.rare.tasks.now_and_then", "rare"
ONCE = "shop.rare.tasks.once"
PAST = "shop.past.tasks.campaign"
#: Of the 190 others, which all begin like this, the second most frequent, and one of the least frequent.
OFTEN, SELDOM = "shop.area1.tasks.do_1", "shop.area1.tasks.do_171"
QUEUE = "queue-3"
ABSENT = "no.such.task"
WORKERS = 200

_JOBS = """
INSERT INTO queue_app_job (id, task, queue, priority, state, payload, result, backend, run_after, max_attempts, attempt,
    failures, deaths, worker_id, enqueued_at, started_at, last_attempted_at, finished_at)
SELECT (lpad(to_hex(ms), 12, '0') || '7' || substr(hash, 1, 3) || '8' || substr(hash, 4, 15))::uuid, task, queue, 0,
    state, '[[' || g || ',"' || hash || '"],{"note":"' || repeat('x', (random() * 60)::int) || '"}]',
    CASE WHEN state = 'succeeded' THEN 'null' END, CASE WHEN g %% 400 = 0 THEN 'other' ELSE 'default' END,
    CASE WHEN state IN ('scheduled', 'retrying') THEN at + interval '30 days' END, 3,
    (state IN ('succeeded', 'failed', 'retrying'))::int, (state IN ('failed', 'retrying'))::int, 0,
    CASE WHEN began IS NOT NULL THEN md5('worker ' || worker)::uuid END, at, began, began,
    CASE WHEN state IN ('succeeded', 'failed', 'cancelled', 'expired') THEN at + interval '2 s' END
FROM (
    SELECT *, CASE WHEN state IN ('succeeded', 'failed', 'retrying', 'running') THEN at + interval '1 s' END AS began
    FROM (
        SELECT g, md5(g::text) AS hash, ms, to_timestamp(ms / 1000.0) AS at,
            least(floor(g * %(workers)s / %(jobs)s + random() * 10), %(workers)s - 1)::int AS worker,
            CASE WHEN g = %(jobs)s / 8 THEN %(once)s WHEN g %% 9973 = 7 THEN %(rare)s
                WHEN g BETWEEN %(jobs)s * 3 / 20 AND %(jobs)s / 5 AND g %% 3 = 0 THEN %(past)s
                ELSE 'shop.area' || kind %% 17 || '.tasks.do_' || kind END AS task,
            CASE WHEN g %% 9967 = 7 THEN %(rare_queue)s ELSE 'queue-' || floor(power(50, random())) END AS queue,
            CASE WHEN g > %(jobs)s * 0.9995 AND random() < 0.8
                    THEN (ARRAY['queued', 'queued', 'queued', 'running'])[1 + floor(random() * 4)::int]
                WHEN g > %(jobs)s * 0.99 AND random() < 0.02 THEN 'running'
                WHEN g BETWEEN %(jobs)s * 3 / 10 AND %(jobs)s / 3 AND random() < 0.5 THEN 'cancelled'
                WHEN random() < 0.98 THEN 'succeeded' WHEN random() < 0.9 THEN 'failed'
                WHEN random() < 0.05 THEN 'expired' WHEN random() < 0.9 THEN 'scheduled' ELSE 'retrying' END AS state
        FROM (
            SELECT g, (extract(epoch FROM now()) * 1000)::bigint - (%(jobs)s - g) * 800::bigint AS ms,
                floor(power(190, random()))::int AS kind
            FROM generate_series(1, %(jobs)s) AS g
        ) AS numbers
    ) AS chosen
) AS jobs ORDER BY ms
"""
_ATTEMPTS = """
INSERT INTO queue_app_attempt (job_id, number, state, worker_id, started_at, finished_at, error_class, error, traceback)
SELECT id, number, CASE WHEN state = 'succeeded' AND number = 1 THEN 'succeeded'
        ELSE (ARRAY['failed', 'failed', 'failed', 'failed', 'timed_out'])[1 + floor(random() * 5)::int] END,
    worker_id, started_at, coalesce(finished_at, started_at),
    CASE WHEN state = 'succeeded' THEN '' ELSE (ARRAY['builtins.ValueError', 'builtins.KeyError', 'requests.Timeout',
        'shop.errors.PaymentRefused'])[1 + floor(power(random(), 3) * 4)::int] END,
    CASE WHEN state = 'succeeded' THEN '' ELSE 'no answer to order ' || md5(id::text) END,
    CASE WHEN state = 'succeeded' THEN '' ELSE repeat('  File "tasks.py", line 1, in fail' || chr(10), 8) END
FROM queue_app_job, generate_series(1, 2) AS number
WHERE attempt > 0 AND (number = 1 OR state = 'failed') ORDER BY queue_app_job.id, number
"""
#: Two of three are open. Jobs that succeeded after a replay have theirs as well.
_DEAD_LETTERS = """
INSERT INTO queue_app_deadletter (id, job_id, task, queue, reason, attempts, error_class, error, fingerprint,
    created_at, replayed_at)
SELECT id, id, task, queue,
    (ARRAY['exhausted', 'exhausted', 'discarded', 'not_retryable'])[1 + floor(random() * 4)::int], 3,
    'builtins.ValueError', 'no answer to order ' || md5(id::text) || repeat('.', (random() * 300)::int),
    substr(md5(task), 1, 12), finished_at, CASE WHEN random() < 0.33 THEN finished_at END
FROM queue_app_job
WHERE state = 'failed' OR (state = 'succeeded' AND substr(id::text, 34, 3) < '07') ORDER BY id
"""
_WORKERS = """
INSERT INTO queue_app_worker (id, hostname, pid, queues, processes, slots, release, tasks, started_at, heartbeat_at,
    last_claim_at, stopped_at, refused)
SELECT md5('worker ' || g)::uuid, 'host-' || g %% 20, g, 'default', 2, 1, '', tasks, now() - interval '1 h', now(),
    now(), CASE WHEN g < %(workers)s - 10 THEN now() END, 0
FROM generate_series(0, %(workers)s - 1) AS g,
    (SELECT json_agg('shop.area' || t %% 17 || '.tasks.do_' || t)::jsonb AS tasks
        FROM generate_series(1, 190) AS t) AS known
"""
#: Whether index-only scans need not look into the tables.
_VISIBLE = """
SELECT bool_and(relallvisible > 0.9 * relpages) FROM pg_class
WHERE relname IN ('queue_app_job', 'queue_app_attempt', 'queue_app_deadletter') AND relpages > 0
"""


def fill(jobs: int) -> None:
    """Write a history of so many jobs, the last of them now, into empty tables, and have it vacuumed and analysed.
    PostgreSQL alone; outside a transaction."""
    values = {
        "jobs": jobs, "workers": WORKERS, "once": ONCE, "rare": RARE, "past": PAST, "rare_queue": RARE_QUEUE,
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.42)")
        for statement in (_JOBS, _ATTEMPTS, _DEAD_LETTERS, _WORKERS):
            cursor.execute(statement, values)
        # An autovacuum that looks at the same table meanwhile keeps its pages from counting as visible to all.
        deadline = time.monotonic() + 120
        while True:
            cursor.execute("VACUUM ANALYZE")
            cursor.execute(_VISIBLE)
            if cursor.fetchone()[0] or time.monotonic() > deadline:
                break
