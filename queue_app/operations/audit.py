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

#: Most characters of a reason; most ids that one event lists.
MAX_REASON_LENGTH, MAX_IDS_LISTED = 500, 1_000


@dataclass(slots=True)
class Result:
    """The result of an operation, which the operation fills in.

    Attributes:
        count: how many targets it changed.
        changed: whether it changed something else, such as closing a dead letter whose job was no longer failed.
        after: details, stored in the result event of a bulk operation.
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
    """Audit an operation on targets given by id: `single` for one target, `bulk` for several."""
    if len(ids) == 1:
        return single(actor, verb, kind, ids[0], reason)
    return bulk(actor, verb, kind, ids_criteria(ids), reason=reason)


@contextlib.contextmanager
def single(actor: Actor, verb: str, kind: str, target: Any, reason: str = "") -> Iterator[Result]:
    """Audit an operation on one target. The event is written in the transaction of the effect; both are rolled back if
    nothing was changed."""
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
    """Audit an operation on many targets, with an intent event and a result event.

    The intent is committed before anything is done, unless the caller has a transaction open. If the process dies in
    between, only the intent remains.

    Args:
        kind: what the targets are, such as `job`.
        criteria: field → value by which the targets were selected.
        limit: most targets that are changed; None: no limit.
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
        with contextlib.suppress(Error):  # the database may be the cause
            conclude()
        raise
    conclude()


def ids_criteria(ids: Sequence[Any]) -> dict[str, Any]:
    """The `filter` of an event for targets given by id; lists the first `MAX_IDS_LISTED`."""
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
