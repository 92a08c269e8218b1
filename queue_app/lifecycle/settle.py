"""Settle: the group commit of outcomes, and the acknowledgement that comes only after it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

import redis
from django.db import DataError, IntegrityError
from django.db.models import F

from queue_app import signals
from queue_app.dispatch import queues
from queue_app.dispatch.queues import Entry
from queue_app.domain.ending import Ending, ending
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import FINAL, AttemptState
from queue_app.lifecycle import store_health
from queue_app.lifecycle.entries import entry_of_next, is_near
from queue_app.models import Attempt, Worker, sql
from queue_app.models.sql import generic
from queue_app.models.sql.rows import Accepted, Start

logger = logging.getLogger(__name__)

SUCCEEDED = AttemptState.SUCCEEDED


def record(outcomes: list[Outcome], worker_id: str) -> set[str]:
    """Write outcomes in one transaction, each only if the record expects its delivery (P4).

    Outcomes of jobs that were to be cancelled meanwhile are overruled: unless they succeeded, nothing follows them.

    Returns:
        The ids whose outcome counted.

    Raises:
        Error: nothing was written; the same outcomes can be recorded again.
    """
    connection = sql.write_connection()
    accepted: Accepted = sql.for_vendor(connection).end_attempts(connection, _endings(outcomes), worker_id)
    _overrule(outcomes, accepted)
    return accepted


def _endings(outcomes: list[Outcome]) -> list[Ending]:
    """The row values, which `acknowledge` needs too."""
    found = []
    for outcome in outcomes:
        outcome.ending = row = ending(outcome)
        found.append(row)
    return found


def _overrule(outcomes: Iterable[Outcome], accepted: Accepted) -> None:
    if accepted.cancelled:
        for outcome in outcomes:
            if outcome.delivery.id in accepted.cancelled:
                outcome.overrule()


def record_alone(outcome: Outcome, worker_id: str) -> set[str]:
    """`record` of one outcome that was refused. After the record was edited by hand, a row of the same attempt or an
    open dead letter of the job may be there already: it stays, and the job ends all the same.

    Raises:
        Error: nothing was written.
    """
    connection = sql.write_connection()
    accepted = generic.end_attempts(connection, _endings([outcome]), worker_id, lenient=True)
    _overrule([outcome], accepted)
    return accepted


def record_apart(outcomes: list[Outcome], worker_id: str) -> tuple[set[str], set[str]]:
    """`record` for those who cannot wait: what the database refuses of these outcomes costs no other.

    Returns:
        The ids whose outcome counted; and those whose outcome the database refuses: these must stay held.

    Raises:
        Error: an outage (see `store_health.is_outage`); some may be recorded.
    """
    try:
        return record(outcomes, worker_id), set()
    except (DataError, IntegrityError) as error:
        refusal = error
    if len(outcomes) > 1:
        half = len(outcomes) // 2
        first, second = (record_apart(part, worker_id) for part in (outcomes[:half], outcomes[half:]))
        return first[0] | second[0], first[1] | second[1]
    (outcome,) = outcomes
    try:
        return record_alone(outcome, worker_id), set()
    except (DataError, IntegrityError):
        store_health.check_writes()
    logger.error(
        "The outcome of job %s cannot be recorded, so the job is not let go of: %s",
        outcome.delivery.id,
        refusal,
    )
    return set(), {outcome.delivery.id}


def recorded(outcomes: list[Outcome], worker_id: str) -> set[str]:
    """The ids whose attempt is in the record just as these outcomes say: a commit whose answer was lost wrote them. The
    times tell it from an outcome of the same delivery in another child, as there may be after Redis lost its data.

    Raises:
        Error: ask again.
    """
    mine = {(UUID(o.delivery.id), o.delivery.number): o for o in outcomes}
    rows = Attempt.objects.using(sql.write_alias()).filter(
        job_id__in=[job_id for job_id, _ in mine], worker_id=worker_id
    )
    found = set()
    for job_id, number, state, finished_at in rows.values_list("job_id", "number", "state", "finished_at"):
        outcome = mine.get((job_id, number))
        if outcome and outcome.state == state and abs(finished_at.timestamp() - outcome.finished_at) < 1e-5:
            found.add(outcome.delivery.id)
    return found


def acknowledge(client: redis.Redis, holder: str, outcomes: Iterable[Outcome], accepted: set[str]) -> None:
    """After the commit: let go of the jobs in Redis, and put those that go on back into their queues.

    An outcome that did not count is let go of as well; whoever it belongs to now looks after the job.

    Raises:
        Unavailable (see dispatch.connection): repeat it; acknowledging twice is harmless.
    """
    ended: dict[str, list[str]] = defaultdict(list)
    going_on: dict[str, list[Entry]] = defaultdict(list)
    tallies: dict[str, dict[str, float]] = {}
    for outcome in outcomes:
        d = outcome.delivery
        if d.id in accepted:
            tally = tallies.get(d.queue)
            if tally is None:
                tally = tallies[d.queue] = defaultdict(float)
            tally[outcome.state] += 1
            if outcome.started_at:
                tally["run_ms"] += 1000 * (outcome.finished_at - outcome.started_at)
        if outcome.state is SUCCEEDED or d.id not in accepted or outcome.job_state in FINAL:
            ended[d.queue].append(d.id)
            continue
        row = outcome.ending
        assert row is not None  # it was recorded: it is among the accepted
        entry = entry_of_next(
            d,
            failures=row.failures,
            deaths=row.deaths,
            run_at=outcome.run_at,
            started_at=outcome.started_at,
            suspect=row.suspect,
        )
        if is_near(entry[1]):
            going_on[d.queue].append(entry)
        else:
            ended[d.queue].append(d.id)  # the record keeps what is far off
    for queue in ended.keys() | going_on.keys():
        tally = tallies.get(queue, {})
        words = " ".join([f"{name} {max(0, round(number))}" for name, number in tally.items()])
        queues.settle(client, queue, holder, ended[queue], going_on[queue], words)


def announce(outcomes: list[Outcome], accepted: set[str], worker_id: str) -> None:
    """Send the signals of a group that is committed; outcomes that did not count are said to be refused."""
    refused: list[Outcome] = []
    if len(accepted) < len(outcomes):
        refused = [o for o in outcomes if o.delivery.id not in accepted]
        outcomes = [o for o in outcomes if o.delivery.id in accepted]
    if outcomes:
        signals.attempts_finished.send_robust(sender=None, outcomes=outcomes, worker_id=worker_id)
    if refused:
        signals.outcomes_refused.send_robust(sender=None, outcomes=refused, worker_id=worker_id)
    for outcome in outcomes:
        if outcome.dead_reason is not None:
            signals.dead_lettered.send_robust(
                sender=None,
                job_id=outcome.delivery.id,
                task=outcome.delivery.task,
                reason=outcome.dead_reason.value,
                error=outcome.error,
            )


def count_refused(worker_id: str, count: int) -> None:
    """Add to the outcomes of a worker that did not count: it had been given up for dead.

    Raises:
        Error: nothing was written.
    """
    workers = Worker.objects.using(sql.write_alias()).filter(pk=worker_id)
    workers.update(refused=F("refused") + count)


def mark_running(starts: list[Start], worker_id: str) -> None:
    """Say `running` in the rows of attempts that have been under way for a while.

    Raises:
        Error: nothing was written.
    """
    connection = sql.write_connection()
    sql.for_vendor(connection).mark_running(connection, starts, worker_id)
