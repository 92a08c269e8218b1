"""The process that uses one version: `python -m jq_bench.agent`. Requests and answers are lines of JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import django
from django.apps import apps

QUEUE = "default"
#: Jobs of one enqueue_many.
CHUNK = 5_000


class Agent:
    """One method for each request; its answer is what it returns."""

    def __init__(self) -> None:
        from django.test import Client

        self._client = Client()

    def prepare(self) -> None:
        """Make the tables, and somebody who may pause queues."""
        from django.contrib.auth import get_user_model
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        self._client.force_login(get_user_model().objects.create_superuser("bench"))

    def pause(self) -> None:
        """Stop the claims."""
        self._post(f"/api/v1/queues/{QUEUE}/pause/")

    def resume(self) -> float:
        """Let the queue run; returns when (epoch seconds)."""
        began = time.time()
        self._post(f"/api/v1/queues/{QUEUE}/resume/")
        return began

    def _post(self, path: str) -> None:
        answer = self._client.post(path, "{}", content_type="application/json")
        if answer.status_code != 200:
            raise RuntimeError(f"POST {path}: {answer.status_code} {answer.content[:300]!r}")

    def load(self, jobs: int) -> dict[str, float]:
        """Enqueue that many no-op jobs; returns the seconds, and this process's CPU seconds."""
        from jq_bench.tasks import noop

        began, cpu = time.perf_counter(), time.process_time()
        for start in range(0, jobs, CHUNK):
            noop.enqueue_many([((n,), {}) for n in range(start, min(start + CHUNK, jobs))])
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    def unfinished(self) -> bool:
        """Whether any job has not ended."""
        return bool(apps.get_model("queue_app", "Job").objects.filter(finished_at=None).exists())

    def ended(self) -> dict[str, Any]:
        """How many jobs succeeded, how many attempts there are, and when the last one ended (epoch seconds)."""
        from django.db.models import Max

        jobs = apps.get_model("queue_app", "Job").objects.all()
        last = jobs.aggregate(last=Max("finished_at"))["last"]
        return {
            "succeeded": jobs.filter(state="succeeded").count(),
            "attempts": apps.get_model("queue_app", "Attempt").objects.count(),
            "last": last.timestamp() if last else 0.0,
        }

    def latency(self, jobs: int, every: float) -> list[float]:
        """Send jobs to an idle worker; returns the milliseconds of each from before `enqueue()` to its start."""
        from jq_bench.tasks import arrive

        with tempfile.TemporaryDirectory(prefix="jq-against-") as folder:
            path = Path(folder) / "arrivals"
            next_at = time.perf_counter()
            for _ in range(jobs):
                time.sleep(max(0.0, next_at - time.perf_counter()))
                next_at += every
                arrive.enqueue(time.time(), str(path))
            deadline = time.monotonic() + 30
            while len(found := path.read_text().splitlines() if path.exists() else []) < jobs:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{jobs} jobs were sent, and {len(found)} were started")
                time.sleep(0.01)
        return [float(line) for line in found]

    def empty(self) -> None:
        """Forget all jobs, and have no trouble with their pages later."""
        from django.db import connection

        names = [
            apps.get_model("queue_app", name)._meta.db_table for name in ("Job", "Attempt", "DeadLetter")
        ]
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(names)} CASCADE")
            cursor.execute("CHECKPOINT")

    def analyze(self) -> None:
        """Have the planner know the tables."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what is printed goes where errors go
    django.setup()
    agent = Agent()
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            answer = {"answer": getattr(agent, verb)(**arguments)}
        except Exception as error:
            answer = {"error": f"{verb}: {type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
