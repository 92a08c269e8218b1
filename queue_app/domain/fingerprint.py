"""Fingerprints: dead letters with the same one died of the same, so that they can be counted and replayed together."""

from __future__ import annotations

import hashlib
import re

#: Characters of a fingerprint: of a million different causes two share one with a chance of one in five hundred.
LENGTH = 12

_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line \d+, in (?P<function>.+)$', re.MULTILINE)
#: What differs from one time to the next: numbers, hexadecimal addresses and ids, quoted values.
_VARIES = re.compile(
    r"""0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|(?<!exit code )\b\d+(?:[.,]\d+)*|'[^'\n]*'|"[^"\n]*\"""",
    re.IGNORECASE,
)


def fingerprint(task: str, error_class: str, error: str, traceback: str) -> str:
    """What a job died of, as a short hash: its task, the error's class, and the innermost function in which it was
    raised; without a traceback, as after the death of a process, what was said, less what varies.

    Returns:
        12 hexadecimal digits.
    """
    where = ""
    for frame in _FRAME.finditer(traceback):
        where = f"{frame['file']}:{frame['function']}"
    parts = (task, error_class, where or _VARIES.sub("…", error))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:LENGTH]
