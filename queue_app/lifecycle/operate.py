"""What operators and machines may do to jobs: cancel, replay, pause, resume. Admin, API and commands all call these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from django.db import router, transaction
from django.db.models import QuerySet

from queue_app import clock, signals
from queue_app.dispatch import connection as redis_connection
from queue_app.dispatch import queues
from queue_app.domain.names import check_queue
from queue_app.domain.states import JobState
from queue_app.lifecycle import release
from queue_app.lifecycle.cancel import cancel_or_request
from queue_app.lifecycle.queue_defaults import queue_defaults
from queue_app.lifecycle.redis_breaker import breaker
from queue_app.models import DeadLetter, Job, Queue
from queue_app.models.sql import write_alias
from queue_app.models.unfinished import unfinished

#: Jobs in one transaction of a verb: locks are held briefly, whatever the number chosen.
ROWS_PER_TRANSACTION = 1_000


@dataclass(slots=True)
class Answer:
    """What a verb did.

    Attributes:
        done: ids of the jobs that it changed.
        requested: ids of jobs under way that were asked to end; see `cancel`.
        refused: id → why not, for the others that it looked at.
        closed: of a replay: how many dead letters are open no more.
    """

    done: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    closed: int = 0


def cancel(jobs: Iterable[Any] | QuerySet[Job], *, limit: int | None = None, user: Any = None) -> Answer:
    """Cancel jobs.

    Those that wait never start, whatever happens afterwards: they are `done`. Those that a worker has claimed are
    `requested`: they are interrupted within a second, killed after CANCEL_GRACE, and end `cancelled`, unless they
    succeed first; nothing of them starts again.

    The rows are locked, then the jobs are taken out of Redis, then the rows change: a job that a child has
    claimed in between is seen, instead of being run after it was cancelled.

    Args:
        jobs: ids, as UUIDs or text; or a queryset, of whose jobs those that are unfinished are cancelled.
        limit: of a queryset, at most so many (see `models.unfinished`).
        user: who asks, for the audit signal.

    Raises:
        StoreUnavailable: Redis cannot be reached, so that it is not known whether a job has started.
    """
    answer = Answer()
    if isinstance(jobs, QuerySet):
        wanted = unfinished(jobs.using(write_alias()), limit)
    else:
        wanted = _parsed(jobs, answer)
    for part in _chunks(wanted):
        try:
            with transaction.atomic(using=write_alias()):
                _cancel_some(part, answer)
        except redis_connection.Unavailable as error:
            told = len(answer.done) + len(answer.requested)
            what = f"Only {told:,} were cancelled" if told else "Nothing was cancelled"
            raise redis_connection.unavailable(
                error, f"{what}: {{}} Only Redis knows which jobs have been started."
            ) from error
    _send_operated("cancel", user, answer)
    return answer


def _cancel_some(part: list[UUID], answer: Answer) -> None:
    rows = _locked(Job.objects.using(write_alias()).filter(pk__in=part), "state", "queue")
    unfinished = []
    for job in rows:
        if job.is_finished:
            answer.refused[str(job.pk)] = f"It is {job.state} already."
        else:
            unfinished.append(job)
    ended, asked = cancel_or_request(unfinished)
    _refuse_missing(part, rows, answer)
    answer.done += [str(job.pk) for job in ended]
    answer.requested += [str(job.pk) for job in asked]


def replay(
    letters: QuerySet[DeadLetter] | None = None,
    *,
    jobs: Iterable[Any] | None = None,
    limit: int | None = None,
    user: Any = None,
) -> Answer:
    """Run dead jobs again: their failures are forgotten, their history is kept.

    Args:
        letters: the dead letters to replay; those already replayed are left out.
        jobs: instead, ids of failed jobs.
        limit: at most so many, oldest first.
        user: who asks, for the audit signal.
    """
    using = write_alias()
    answer = Answer()
    if letters is None:
        wanted = [str(i) for i in _parsed(jobs or (), answer)]
        letters = DeadLetter.objects.filter(job_id__in=wanted)
        open_jobs = {
            str(i)
            for i in letters.using(using).filter(replayed_at__isnull=True).values_list("job_id", flat=True)
        }
        for job_id in wanted:
            if job_id not in open_jobs:
                answer.refused[job_id] = "It is not in the dead letters."
    todo = list(
        letters.using(using)
        .filter(replayed_at__isnull=True)
        .order_by("id")
        .values_list("id", flat=True)[:limit]
    )
    for part in _chunks(todo):
        _replay_some(part, using, answer)
    _send_operated("replay", user, answer)
    return answer


def _replay_some(letter_ids: list[UUID], using: str, answer: Answer) -> None:
    now = clock.now()
    with transaction.atomic(using=using):
        letters = list(
            DeadLetter.objects.using(using)
            .select_for_update()
            .filter(pk__in=letter_ids, replayed_at__isnull=True)
            .order_by("pk")
        )
        rows = _locked(
            Job.objects.using(using).filter(pk__in=[letter.job_id for letter in letters]), "state", "queue"
        )
        failed = [job for job in rows if job.state == JobState.FAILED]
        Job.objects.using(using).filter(pk__in=[job.pk for job in failed]).update(
            state=JobState.QUEUED, failures=0, deaths=0, finished_at=None, run_after=None, progress=None
        )
        DeadLetter.objects.using(using).filter(pk__in=[letter.pk for letter in letters]).update(
            replayed_at=now
        )
        found = [(job.pk, job.queue) for job in failed]
        answer.done += [str(job.pk) for job in failed]
        answer.closed += len(letters)
        transaction.on_commit(partial(release.restore_quietly, found), using=using)


def pause(queue: str, *, user: Any = None) -> Queue:
    """Let nothing of this queue start; what runs goes on, and enqueueing too."""
    return _set_paused(queue, True, user)


def resume(queue: str, *, user: Any = None) -> Queue:
    """Let the queue start jobs again."""
    return _set_paused(queue, False, user)


def _set_paused(queue: str, paused: bool, user: Any) -> Queue:
    using = router.db_for_write(Queue)
    row, _ = Queue.objects.using(using).update_or_create(name=check_queue(queue), defaults={"paused": paused})
    queue_defaults.reset()

    def tell_redis() -> None:
        try:
            queues.pause(redis_connection.client(), queue, paused)
        except redis_connection.Unavailable as error:  # the reconciler repeats it from the row
            breaker.failed(error)

    transaction.on_commit(tell_redis, using=using)
    signals.operated.send_robust(
        sender=None, verb="pause" if paused else "resume", user=user, count=1, filter={"queue": queue}
    )
    return row


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), ROWS_PER_TRANSACTION):
        yield values[start : start + ROWS_PER_TRANSACTION]


def _locked(rows: QuerySet[Job], *fields: str) -> list[Job]:
    # In the order of their ids, like every other writer, so that no two wait for each other.
    rows = rows.select_for_update().order_by("pk")
    return list(rows.only(*fields) if fields else rows)


def _parsed(values: Iterable[Any], answer: Answer) -> list[UUID]:
    """Ids as UUIDs, in any notation of a UUID; what is no id is refused."""
    found = []
    for value in values:
        try:
            found.append(value if isinstance(value, UUID) else UUID(str(value)))
        except ValueError:
            answer.refused[str(value)] = "It is not a job id."
    return found


def _refuse_missing(wanted: list[Any], rows: list[Job], answer: Answer) -> None:
    found = {str(job.pk) for job in rows}
    for job_id in wanted:
        if str(job_id) not in found:
            answer.refused[str(job_id)] = "There is no such job."


def _send_operated(verb: str, user: Any, answer: Answer) -> None:
    signals.operated.send_robust(
        sender=None,
        verb=verb,
        user=user,
        count=len(answer.done) + len(answer.requested),
        filter={"refused": len(answer.refused)},
    )
