"""The only writer of audit events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from django.db import Error, transaction

from queue_app.exceptions import StoreUnavailable
from queue_app.models import AuditEvent
from queue_app.models.audit_event import Phase
from queue_app.models.sql import write_alias
from queue_app.operations.actor import Actor

#: Characters of a reason; ids that an event lists of those that were chosen one by one.
MAX_REASON_LENGTH, MAX_IDS_LISTED = 500, 1_000


@dataclass(slots=True)
class Result:
    """What a verb came to; the verb fills it in.

    Attributes:
        count: how many it was carried out on.
        changed: whether it changed something else: a dead letter was closed whose job was no longer failed.
        after: more about them; kept of a verb for many.
    """

    count: int | None = None
    changed: bool = False
    after: Any = None


def write(actor: Actor, verb: str, kind: str, target: Any, *, reason: str = "", **more: Any) -> AuditEvent:
    """Write the event of a verb about one target, in the transaction of its effect.

    Args:
        kind: what the target is, such as `queue`.
        target: its primary key.
        more: other fields of AuditEvent, such as `before` and `after`.
    """
    return _create(actor, verb, kind, target_id=str(target)[:255], reason=reason, **({"count": 1} | more))


def for_ids(
    actor: Actor, verb: str, kind: str, ids: Sequence[Any], reason: str = ""
) -> AbstractContextManager[Result]:
    """Around a verb about targets that were chosen one by one: see `single` and `bulk`."""
    if len(ids) == 1:
        return single(actor, verb, kind, ids[0], reason)
    return bulk(actor, verb, kind, ids_criteria(ids), reason=reason)


@contextlib.contextmanager
def single(actor: Actor, verb: str, kind: str, target: Any, reason: str = "") -> Iterator[Result]:
    """Around a verb about one target: its event, in the transaction of its effect. There is none if the verb says that
    it changed nothing."""
    with transaction.atomic(using=write_alias()):
        write(actor, verb, kind, target, reason=reason)
        result = Result()
        yield result
        if not result.count and not result.changed:
            transaction.set_rollback(True, using=write_alias())


@contextlib.contextmanager
def bulk(
    actor: Actor,
    verb: str,
    kind: str,
    criteria: Mapping[str, Any],
    *,
    limit: int | None = None,
    reason: str = "",
) -> Iterator[Result]:
    """Around a verb about many: an event for the intent, committed before anything is done unless the caller has a
    transaction open, and one for the result. If the process dies between, the intent alone remains.

    Args:
        kind: what the targets are, such as `job`.
        criteria: by what they were chosen.
        limit: at most so many of them.
    """
    criteria = {**criteria, **({"limit": limit} if limit else {})}
    intent = _create(actor, verb, kind, filter=criteria, reason=reason, phase=Phase.INTENT)
    result = Result()

    def conclude() -> None:
        found = {"count": result.count, "after": result.after, "intent_id": intent.pk}
        _create(actor, verb, kind, filter=criteria, reason=reason, phase=Phase.RESULT, **found)

    try:
        yield result
    except Exception as error:
        result.after = {
            "stopped": error.public if isinstance(error, StoreUnavailable) else type(error).__name__
        }
        with contextlib.suppress(Error):  # the database may be why it stopped
            conclude()
        raise
    conclude()


def ids_criteria(ids: Sequence[Any]) -> dict[str, Any]:
    """Ids that were chosen one by one, for the filter of an event; of very many the first."""
    listed = {"ids": [str(one)[:64] for one in ids[:MAX_IDS_LISTED]]}
    return listed | ({"ids_not_listed": len(ids) - MAX_IDS_LISTED} if len(ids) > MAX_IDS_LISTED else {})


def _create(actor: Actor, verb: str, kind: str, *, reason: str, **fields: Any) -> AuditEvent:
    return AuditEvent.objects.using(write_alias()).create(
        actor_kind=actor.kind,
        actor_id=actor.id[:64],
        actor=actor.name[:255],
        request_id=actor.request_id,
        verb=verb,
        target_kind=kind,
        reason=reason.replace("\x00", "").strip()[:MAX_REASON_LENGTH],
        **fields,
    )
