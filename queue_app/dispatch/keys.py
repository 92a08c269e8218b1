"""All Redis keys, in one place; nobody else formats one. DESIGN §5.

Every key of a queue carries the same hash tag `{<prefix>:<queue>}`, so that its scripts work in Redis Cluster.

    {jq:<queue>}:body                  HASH  id → body of a job that waits (see body.py)
    {jq:<queue>}:levels                ZSET  priorities that have lanes
    {jq:<queue>}:lanes:<prio>          LIST  lanes with work, in turn
    {jq:<queue>}:ready:<prio>:<lane>   LIST  ids: the dispatch itself
    {jq:<queue>}:due                   ZSET  id → when it may start (epoch seconds), the near future alone
    {jq:<queue>}:held:<holder>         HASH  id → claimed at (ms) '|' body: claimed by this child, not yet settled
    {jq:<queue>}:holders               SET   names of children that may hold jobs: <worker id>.<serial>
    {jq:<queue>}:fence:<holder>        STRING  calls of this child with a lower fence come too late; expires
    {jq:<queue>}:cancelled             ZSET  id → when it was withdrawn; keeps a late push from starting it; trimmed
    {jq:<queue>}:bell                  LIST  wakes blocked children; bounded
    {jq:<queue>}:unknown               SET   what children lacked: <backend>|<task>, of each that has jobs set aside
    {jq:<queue>}:unknown:<need>        ZSET  id → when it was set aside (epoch seconds), of jobs that wait for it
    {jq:<queue>}:ended                 HASH  state of attempts → how many ended so; run_ms: how long they ran in all
    {jq:<queue>}:paused                STRING  present while the queue is paused
    {jq}:epoch                         STRING  missing after Redis lost its data
    {jq}:queues                        SET   names of the queues that were pushed to or served lately
    {jq}:workers                       HASH  worker id → heartbeat (epoch seconds) '|' queues
    {jq}:control:<worker id>           LIST  ids of jobs that this worker shall interrupt; expires
    {jq}:leader                        STRING  who does the maintenance '|' token of this leadership; expires
    {jq}:fence                         STRING  counter: the token of the latest leadership
    {jq}:stats                         LIST  JSON of the queues' figures, newest first; trimmed (dispatch/figures.py)
    {jq}:duties                        HASH  duty → JSON of its last run (see maintenance/history.py)

An id is in exactly one place: waiting (a body) or held by one child. That is what makes a repeated push harmless.
"""

from __future__ import annotations

from queue_app import conf


def _queue(queue: str, rest: str) -> str:
    return f"{{{conf.get().KEY_PREFIX}:{queue}}}:{rest}"


def _all(rest: str) -> str:
    return f"{{{conf.get().KEY_PREFIX}}}:{rest}"


def base(queue: str) -> str:
    """The common first part of a queue's keys, as the scripts take it: `{jq:<queue>}:`."""
    return _queue(queue, "")


def body(queue: str) -> str:
    return _queue(queue, "body")


def levels(queue: str) -> str:
    return _queue(queue, "levels")


def lanes(queue: str, priority: int) -> str:
    return _queue(queue, f"lanes:{priority}")


def ready(queue: str, priority: int, lane: str) -> str:
    return _queue(queue, f"ready:{priority}:{lane}")


def due(queue: str) -> str:
    return _queue(queue, "due")


def held(queue: str, holder: str) -> str:
    return _queue(queue, f"held:{holder}")


def holders(queue: str) -> str:
    return _queue(queue, "holders")


def fence_of(queue: str, holder: str) -> str:
    return _queue(queue, f"fence:{holder}")


def cancelled(queue: str) -> str:
    return _queue(queue, "cancelled")


def bell(queue: str) -> str:
    return _queue(queue, "bell")


def unknown(queue: str) -> str:
    return _queue(queue, "unknown")


def unknown_of(queue: str, need: str) -> str:
    return _queue(queue, f"unknown:{need}")


def ended(queue: str) -> str:
    return _queue(queue, "ended")


def paused(queue: str) -> str:
    return _queue(queue, "paused")


def epoch() -> str:
    return _all("epoch")


def queues() -> str:
    return _all("queues")


def workers() -> str:
    return _all("workers")


def control(worker_id: str) -> str:
    return _all(f"control:{worker_id}")


def leader() -> str:
    return _all("leader")


def fence() -> str:
    return _all("fence")


def stats() -> str:
    return _all("stats")


def duties() -> str:
    return _all("duties")
