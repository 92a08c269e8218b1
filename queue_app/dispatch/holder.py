"""The name under which a child holds jobs, and the fence that keeps out its calls that come too late.

A call that was given up may still be carried out: its bytes wait in a socket while Redis stands still, or the network.
Carried out after somebody has put right what the child holds, a claim would hold jobs that nobody knows of, and an
acknowledgement let go of a later attempt. So whoever puts it right raises the fence first, in each queue: from then on
Redis refuses calls that were made before.
"""

from __future__ import annotations

import redis

from queue_app.dispatch import keys, scripts

#: Carried by calls that no fence keeps out: of those who act for a dead child. Numbers are microseconds: till 2255.
ALWAYS = 1 << 53
#: Seconds for which a fence stands: longer than a kernel tries to deliver what a closed connection had on its way.
STANDS = 900


class Holder(str):
    """The name of a living child, for its own calls. Everybody else uses the name as plain text.

    Attributes:
        fences: queue → the number that this child's calls carry; 0 where nothing was put right yet.
        seen: shard → the epoch and the writes that it has seen counted in it, as the claim answered, where the
            server's life has no name (see epochs.py).
    """

    fences: dict[str, int]
    seen: dict[str, str]

    def __new__(cls, name: str) -> Holder:
        self = super().__new__(cls, name)
        self.fences = {}
        self.seen = {}
        return self


def fence(holder: str, queue: str) -> int:
    """The number that a call carries."""
    return holder.fences.get(queue, 0) if isinstance(holder, Holder) else ALWAYS


def seen(holder: str, queue: str) -> str:
    """What a child has seen counted in the shard of this queue; empty if nothing."""
    return holder.seen.get(keys.shard_of(queue), "") if isinstance(holder, Holder) and holder.seen else ""


def revoke_calls(client: redis.Redis, queue: str, holder: str) -> None:
    """Keep out all calls of this child that have been made before. If it lives, its next ones carry the new number."""
    own = holder.fences.get(queue, 0) if isinstance(holder, Holder) else 0
    names = [keys.epoch_of(queue), keys.fence_of(queue, holder)]
    number = int(scripts.revoke(client, names, [own, STANDS]))
    if isinstance(holder, Holder):
        holder.fences[queue] = number
