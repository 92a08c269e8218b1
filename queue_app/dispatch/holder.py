"""The name under which a child holds jobs, and the fence that refuses its late calls.

A call that was given up may still be carried out: its bytes wait in a socket, while Redis stands still or the network
does. Meanwhile another process may have put the child's jobs in order. Then a late claim would hold jobs without an
owner, and a late acknowledgement would let go of a later attempt. So that process first revokes the child's calls in
each queue. From then on Redis refuses calls that were made before.
"""

from __future__ import annotations

import redis

from queue_app.dispatch import keys, scripts

#: The number in calls that no fence refuses: those made on behalf of a dead child. Numbers are microseconds, so this is
#: enough until the year 2255.
ALWAYS = 1 << 53
#: Seconds for which a fence stands: longer than a kernel tries to deliver the data of a closed connection.
FENCE_SECONDS = 900


class Holder(str):
    """The name of a living child, for its own calls. Other processes use the name as plain text.

    Attributes:
        fences: queue → the number that this child's calls carry; 0 before its calls were revoked once.
        counted: shard → the epoch and the count of writes that the last claim answered. Only where the server's life
            has no name (see epochs.py).
    """

    fences: dict[str, int]
    counted: dict[str, str]

    def __new__(cls, name: str) -> Holder:
        self = super().__new__(cls, name)
        self.fences = {}
        self.counted = {}
        return self


def fence(holder: str, queue: str) -> int:
    """The number that a call of this holder carries."""
    return holder.fences.get(queue, 0) if isinstance(holder, Holder) else ALWAYS


def counted(holder: str, queue: str) -> str:
    """The epoch and the writes that a child has seen counted in the shard of this queue; empty if none."""
    if isinstance(holder, Holder) and holder.counted:
        return holder.counted.get(keys.shard_of(queue), "")
    return ""


def revoke_calls(client: redis.Redis, queue: str, holder: str) -> None:
    """Refuse all calls of this child that were made before. If `holder` is a `Holder`, its next calls carry the new
    number."""
    own = holder.fences.get(queue, 0) if isinstance(holder, Holder) else 0
    names = [keys.epoch_of(queue), keys.fence_of(queue, holder)]
    number = int(scripts.revoke(client, names, [own, FENCE_SECONDS]))
    if isinstance(holder, Holder):
        holder.fences[queue] = number
