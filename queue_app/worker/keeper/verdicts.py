"""What a child's exit means for the jobs that it ran: turns the supervisor's message into a `Cause`."""

from __future__ import annotations

import logging
import threading

from queue_app import conf
from queue_app.domain.causes import Cause, Verdict
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome, cancelled, killed, lost
from queue_app.domain.retry import RetryPolicy
from queue_app.exceptions import Cancelled, UnknownTask
from queue_app.tasks import registry
from queue_app.tasks.registry import Declared
from queue_app.worker.pipes import ChildExited

logger = logging.getLogger(__name__)


def cause_of(child: ChildExited) -> Cause:
    """Why a child exited, for `recover.take_back`."""
    text = child.cause or "ended"
    return Cause(
        text=text,
        running=child.running,
        verdicts={job_id: _timed_out(seconds) for job_id, seconds in child.timed_out.items()}
        | {job_id: _cancel_overdue(seconds) for job_id, seconds in child.cancelled.items()}
        | {job_id: _import_timed_out(text, child.running) for job_id in child.import_timed_out},
        blameless=child.blameless,
        importing=frozenset(child.importing),
    )


def _timed_out(seconds: float) -> Verdict:
    def judge(delivery: Delivery, started: float | None) -> Outcome:
        return killed(_policy(delivery.task), delivery, started, seconds)

    return judge


def _cancel_overdue(seconds: float) -> Verdict:
    def judge(delivery: Delivery, started: float | None) -> Outcome:
        error = Cancelled(f"The job was cancelled, and killed after {seconds:.1f} s as it did not end.")
        return cancelled(delivery, started, error)

    return judge


def _import_timed_out(text: str, running: dict[str, float]) -> Verdict:
    """The verdict on a job whose task's module took too long to import."""

    def judge(delivery: Delivery, started: float | None) -> Outcome:
        cause = Cause(text, running=running, importing=frozenset([delivery.id]))
        found = lost(delivery, cause)
        found.error += f", which takes longer than IMPORT_TIMEOUT ({conf.get().IMPORT_TIMEOUT:g} s)"
        return found

    return judge


def _policy(name: str) -> RetryPolicy | None:
    """The task's retry policy; None if it has none, or if it is not known in time.

    This process may have to import the task's module, as the child has done. A thread does so, because heartbeats must
    not wait for it.
    """
    found: list[Declared] = []

    def look_up() -> None:
        try:
            found.append(registry.look_up(name))
        except UnknownTask as error:
            logger.warning("The default retry policy is used for a job of %s: %s", name, error)

    if (known := registry.loaded_task(name)) is not None:
        return known.policy
    thread = threading.Thread(target=look_up, name="import", daemon=True)
    thread.start()
    thread.join(conf.get().LEASE / 4)
    if thread.is_alive():
        logger.warning(
            "The default retry policy is used for a job of %s: the keeper is still importing its module.",
            name,
        )
    return found[0].policy if found else None
