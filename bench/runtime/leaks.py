"""Which keys may be in Redis: a test that leaves any other fails."""

from __future__ import annotations

import re

import redis

# Documented in queue_app/dispatch/keys.py; the prefix may differ in tests that set KEY_PREFIX.
SHARD = r"\{[^{}:]+:[A-Za-z0-9_\-]+\}:"
QUEUE = SHARD + r"[A-Za-z0-9_.\-]+:"
GLOBAL = r"\{[^{}:]+\}:"
PATTERNS = [
    SHARD + r"epoch",
    SHARD + r"epoch:count",
    SHARD + r"announced",
    QUEUE + r"body",
    QUEUE + r"levels",
    QUEUE + r"lanes:-?\d+",
    QUEUE + r"ready:-?\d+:.*",
    QUEUE + r"due",
    QUEUE + r"held:.+",
    QUEUE + r"holders",
    QUEUE + r"fence:.+",
    QUEUE + r"cancelled",
    QUEUE + r"restored",
    QUEUE + r"pushed:.+",
    QUEUE + r"bell",
    QUEUE + r"ended",
    QUEUE + r"paused",
    QUEUE + r"unknown",
    QUEUE + r"unknown:.+",
    GLOBAL + r"layout",
    GLOBAL + r"queues",
    GLOBAL + r"workers",
    GLOBAL + r"control:[0-9a-f\-]+",
    GLOBAL + r"leader",
    GLOBAL + r"duties",
    GLOBAL + r"stats",
]

_known = re.compile("|".join(f"(?:{pattern})" for pattern in PATTERNS), re.DOTALL)


def undocumented_keys(client: redis.Redis) -> list[str]:
    """The keys of the server that match no documented pattern, sorted."""
    keys = (key.decode(errors="backslashreplace") for key in client.scan_iter(count=1_000))
    return sorted(key for key in keys if not _known.fullmatch(key))
