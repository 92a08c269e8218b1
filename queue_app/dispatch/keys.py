"""All Redis keys, in one place; no other module formats one. DESIGN §5.

All queues are in the shard `main` unless the setting SHARDS spreads them. All keys of a shard carry the same hash tag
`{<prefix>:<shard>}`, so that a script may touch all of them in Redis Cluster.

S is `{jq:<shard>}` here, and Q is `{jq:<shard>}:<queue>`.

    S:epoch                  STRING  life '|' name '|' begun '|' phase of the data (see epochs.py)
    S:epoch:count            STRING  writes counted, only where the server's run_id cannot be used
    S:announced              HASH    worker → the epoch in which it has announced what it runs
    Q:body                   HASH    id → body of a job that waits (see domain/envelope.py), or '@' holder
    Q:levels                 ZSET    priorities that have lanes
    Q:lanes:<prio>           LIST    lanes with work, in turn
    Q:ready:<prio>:<lane>    LIST    ids: the dispatch itself
    Q:due                    ZSET    id → when it may start (epoch seconds), the near future alone
    Q:held:<holder>          HASH    id → claimed at (ms) '|' body: claimed by this child, not yet settled
    Q:holders                SET     names of children that may hold jobs: <worker id>.<serial>
    Q:fence:<holder>         STRING  calls of this child with a lower fence come too late; expires
    Q:cancelled              ZSET    id → when it was withdrawn; keeps a late push from starting it; trimmed
    Q:restored               ZSET    id → stamp of who restores it, or has; keeps late pushes out; trimmed
    Q:pushed:<id>            STRING  the push that begins with this id was carried out; expires
    Q:bell                   LIST    wakes blocked children; bounded
    Q:unknown                SET     what children lacked: <backend>|<task>, of each that has jobs set aside
    Q:unknown:<requirement>         ZSET    ids of jobs that wait for it, all with the score 0: sorted by id, so by time
    Q:ended                  HASH    state of attempts → how many ended so; run_ms: how long they ran in all
    Q:paused                 STRING  present while the queue is paused
    {jq}:layout              STRING  version of this list; keys of older ones were dropped
    {jq}:queues              SET     names of the queues that were pushed to or served lately
    {jq}:workers             HASH    worker id → heartbeat (epoch seconds) '|' queues
    {jq}:control:<worker id> LIST    ids of jobs that this worker must interrupt; expires
    {jq}:leader              STRING  who does the maintenance '|' token of this leadership; expires
    {jq}:stats               LIST    JSON of the queues' figures, newest first; trimmed (dispatch/queue_stats.py)
    {jq}:duties              HASH    duty → JSON of its last run (see maintenance/history.py)

An id that Redis knows has exactly one value in `body`: the body of a waiting job, or the name of the child that holds
it. So one look-up tells whether Redis knows a job, for any number of children.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from queue_app import conf

#: The shard of every queue that the setting SHARDS does not name.
MAIN = "main"

_KINDS = frozenset(
    [
        "body",
        "levels",
        "lanes",
        "ready",
        "due",
        "held",
        "holders",
        "fence",
        "cancelled",
        "restored",
        "pushed",
        "bell",
        "unknown",
        "ended",
        "paused",
    ]
)


def shard_of(queue: str) -> str:
    """The shard of a queue: that of the first pattern of SHARDS that fits."""
    for pattern, shard in (conf.get().SHARDS or {}).items():
        if fnmatchcase(queue, pattern):
            return shard
    return MAIN


def shards() -> list[str]:
    """All shards there are, sorted."""
    return sorted({MAIN, *(conf.get().SHARDS or {}).values()})


def _shard(shard: str, rest: str) -> str:
    return f"{{{conf.get().KEY_PREFIX}:{shard}}}:{rest}"


def _queue(queue: str, rest: str) -> str:
    return f"{{{conf.get().KEY_PREFIX}:{shard_of(queue)}}}:{queue}:{rest}"


def _all(rest: str) -> str:
    return f"{{{conf.get().KEY_PREFIX}}}:{rest}"


def base(queue: str) -> str:
    """The common first part of a queue's keys, as the scripts take it: `{jq:<shard>}:<queue>:`."""
    return _queue(queue, "")


def for_push(queue: str) -> list[str]:
    """The keys of push.lua and restore.lua, in their order. Built at once, as they are needed for every enqueue."""
    first = base(queue)
    parts = ("body", "levels", "due", "bell", "cancelled", "restored")
    return [epoch_of(queue), *[first + part for part in parts]]


def for_find(queue: str) -> list[str]:
    """The keys of find.lua, in their order."""
    return [epoch_of(queue), body(queue), cancelled(queue), restored(queue)]


def epoch(shard: str) -> str:
    return _shard(shard, "epoch")


def epoch_of(queue: str) -> str:
    """The epoch of a queue's shard."""
    return _shard(shard_of(queue), "epoch")


def announced(shard: str) -> str:
    return _shard(shard, "announced")


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


def restored(queue: str) -> str:
    return _queue(queue, "restored")


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


def layout() -> str:
    return _all("layout")


def queues() -> str:
    return _all("queues")


def workers() -> str:
    return _all("workers")


def control(worker_id: str) -> str:
    return _all(f"control:{worker_id}")


def leader() -> str:
    return _all("leader")


def stats() -> str:
    return _all("stats")


def duties() -> str:
    return _all("duties")


def all_of_prefix() -> str:
    """A pattern for SCAN that fits every key of a shard, of this layout or an older one."""
    return f"{{{conf.get().KEY_PREFIX}:*}}:*"


def is_of_this_layout(key: str) -> bool:
    """Whether a key that fits `all_of_prefix` belongs to a shard that there is, and has a name of this layout."""
    shard = key[: key.index("}")].partition(":")[2]
    own = (epoch(shard), f"{epoch(shard)}:count", announced(shard))
    return shard in shards() and (key in own or parts_of(key)[1] in _KINDS)


def of_older_layouts() -> list[str]:
    """The keys of older layouts that `all_of_prefix` does not fit."""
    return [_all("epoch"), _all("fence")]


def all_of_shard(shard: str) -> str:
    """A pattern for SCAN that fits every key of a shard."""
    return _shard(shard, "*")


def parts_of(key: str) -> tuple[str, str]:
    """The queue and the kind (`body`, `ready`, …) of a key of a queue."""
    queue, _, rest = key.partition("}:")[2].partition(":")
    return queue, rest.partition(":")[0]
