"""Rows and endings of any kind, and what the bulk writes must make of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import ModuleType
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from queue_app import clock
from queue_app.domain import ids
from queue_app.domain.ending import Ending
from queue_app.domain.states import FINAL, TIMED, UNFINISHED, JobState
from queue_app.models import Job
from queue_app.models.sql import generic, postgresql
from tests.support.jobs import OTHER_WORKER, WORKER

examples = hypothesis_settings(
    max_examples=60,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.generate,
        Phase.shrink,
    ],  # explaining takes minutes where each example asks a database
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


#: What may be in a message or a value: every character that one of the formats gives a meaning to.
texts = st.text(
    st.one_of(
        st.sampled_from("\\\t\n\r\v\f\b\"'{},%sN. \x01\x7f\u2028é😀"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"),
    ),
    max_size=30,
)


times = st.floats(1.6e9, 1.9e9).map(lambda seconds: round(seconds, 6))


json_texts = st.one_of(st.none(), texts.map(lambda t: json.dumps({t: [t]}, ensure_ascii=False)))


counts = st.integers(0, 30_000)


def vendors() -> list[ModuleType]:
    """What may write on this leg's database: the ORM anywhere, and the vendor's own module."""
    return [generic, postgresql] if connection.vendor == "postgresql" else [generic]


@contextmanager
def forgotten() -> Iterator[None]:
    """What is written in the block is rolled back."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else clock.from_seconds(seconds)


@st.composite
def rows(draw: st.DrawFn) -> Job:
    """A job as it may be found in the table."""
    state = draw(st.sampled_from(sorted(JobState)))
    started = draw(st.one_of(st.none(), times)) if state not in ("running", "succeeded") else draw(times)
    began = at(started)
    return Job(
        id=ids.new_id(),
        task=draw(texts),
        queue="default",
        state=state,
        attempt=draw(st.integers(0, 3)),
        failures=draw(counts),
        deaths=draw(counts),
        started_at=began,
        last_attempted_at=began,
        finished_at=clock.from_seconds(draw(times)) if state in FINAL else None,
        run_after=clock.from_seconds(draw(times)) if state in TIMED or draw(st.booleans()) else None,
        cancel_requested_at=at(draw(st.one_of(st.none(), times))),
        progress=draw(json_texts),
        suspect=draw(st.booleans()),
        worker_id=draw(st.sampled_from([None, UUID(OTHER_WORKER)])),
    )


@st.composite
def endings(draw: st.DrawFn, job: Job) -> Ending:
    """An outcome of this job, mostly of the attempt that it expects."""
    kind = draw(
        st.sampled_from(
            ["succeeded", "retried", "dead", "poison", "snoozed", "lost", "timed_out", "cancelled"]
        )
    )
    number = job.attempt + draw(st.sampled_from([1, 1, 1, 0, 2, -1]))
    job_state, attempt_state, reason = {
        "succeeded": ("succeeded", "succeeded", ""),
        "retried": ("retrying", "failed", ""),
        "dead": ("failed", "failed", "exhausted"),
        "poison": ("failed", "lost", "poison"),
        "snoozed": ("scheduled", "snoozed", ""),
        "lost": ("queued", "lost", ""),
        "timed_out": ("retrying", "timed_out", ""),
        "cancelled": ("cancelled", "cancelled", ""),
    }[kind]
    good = kind == "succeeded"
    wrong = not good and draw(st.booleans())
    return Ending(
        id=str(job.pk),
        task=job.task,
        queue=job.queue,
        number=number,
        job_state=job_state,
        attempt_state=attempt_state,
        started_at=draw(times if good else st.one_of(st.none(), times)),
        finished_at=draw(times),
        failures=job.failures if good else draw(counts),
        deaths=job.deaths if good else draw(counts),
        run_after=draw(times) if job_state in TIMED else None,
        result=draw(json_texts) if good else None,
        progress=draw(json_texts),
        error_class=draw(texts) if wrong else "",
        error=draw(texts.filter(bool)) if wrong else "",
        traceback=draw(texts) if wrong else "",
        dead_reason=reason,
        fingerprint="0123456789ab" if reason else "",
        suspect=not good and draw(st.booleans()),
    )


#: States from which an attempt may end, or be under way: all that are not final, but for what waits for other jobs.
ATTEMPTED = UNFINISHED - {JobState.BLOCKED}


def counted(job: Job, e: Ending) -> bool:
    """The fence: an outcome counts only if the row still waits for this attempt."""
    return job.state in ATTEMPTED and e.number == job.attempt + 1


def overruled(job: Job, e: Ending) -> bool:
    """The job was to be cancelled and did not succeed. So it is cancelled, and not retried or failed."""
    return job.cancel_requested_at is not None and e.job_state != "succeeded"


def expected_job(job: Job, e: Ending) -> dict[str, Any]:
    """The row that an ending must leave behind."""
    row = values(job)
    if not counted(job, e):
        return row
    cancelled = overruled(job, e)
    return row | {
        "state": "cancelled" if cancelled else e.job_state,
        "attempt": e.number,
        "failures": e.failures,
        "deaths": e.deaths,
        "started_at": row["started_at"] or at(e.started_at),
        "last_attempted_at": at(e.started_at) or row["last_attempted_at"],
        "finished_at": at(e.finished_at) if cancelled or e.job_state in FINAL else None,
        "run_after": row["run_after"] if cancelled else at(e.run_after) or row["run_after"],
        "result": e.result,
        "progress": e.progress or row["progress"],
        "suspect": e.suspect,
        "worker_id": UUID(WORKER),
    }


def expected_attempt(e: Ending) -> dict[str, Any]:
    return {
        "job_id": UUID(e.id),
        "number": e.number,
        "state": e.attempt_state,
        "worker_id": UUID(WORKER),
        "started_at": at(e.started_at),
        "finished_at": at(e.finished_at),
        "error_class": e.error_class,
        "error": e.error,
        "traceback": e.traceback,
    }


def expected_letter(e: Ending) -> dict[str, Any]:
    return {
        "job_id": UUID(e.id),
        "task": e.task,
        "queue": e.queue,
        "reason": e.dead_reason,
        "attempts": e.number,
        "error_class": e.error_class,
        "error": e.error,
        "fingerprint": e.fingerprint,
        "created_at": at(e.finished_at),
        "replayed_at": None,
    }


def values(row: Any) -> dict[str, Any]:
    """A row as a dict, without ids that the database or a clock gave."""
    found = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}
    if not isinstance(row, Job):
        del found["id"]
    return found
