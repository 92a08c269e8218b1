"""The tables of docs/settings.md, from `conf.Settings`; `python -m tests.architecture.settings_page` renews them."""

from __future__ import annotations

import re

from queue_app import conf
from tests.architecture.imports import ROOT

PAGE = ROOT / "docs" / "settings.md"

#: Heading of a table → its settings.
GROUPS = {
    "Stores": ["REDIS_URL", "KEY_PREFIX", "SHARDS"],
    "Sizes": ["PAYLOAD_LIMIT", "BODY_LIMIT", "RESULT_LIMIT"],
    "Attempts": [
        "MAX_ATTEMPTS",
        "TASKS_MAX_ATTEMPTS",
        "BACKOFF_BASE",
        "BACKOFF_FACTOR",
        "BACKOFF_CAP",
        "BACKOFF_JITTER",
    ],
    "Time limits": ["TIMEOUT", "HARD_TIMEOUT_GRACE", "CANCEL_GRACE", "IMPORT_TIMEOUT"],
    "Workers": [
        "GRACE",
        "CLAIM_MAX",
        "SETTLE_MAX",
        "LONG_JOB",
        "RUNNING_AFTER",
        "MAINTENANCE",
        "RELEASE",
        "TASK_MODULES",
    ],
    "Recovery": ["LEASE", "DUE_HORIZON", "SWEEP_GRACE", "POISON_AFTER"],
    "Retention": ["KEEP_SUCCEEDED", "KEEP_FAILED", "KEEP_TASKS", "AUDIT_RETENTION"],
}

_TABLE = re.compile(r"(?<=\n)\| Setting \|.*?\n(?!\|)", re.DOTALL)


def table(names: list[str]) -> str:
    """The table of these settings, in Markdown."""
    lines = ["| Setting | Default | Meaning |", "|---|---|---|"]
    for name in names:
        spec = conf.FIELDS[name]
        bounds = [
            f"{word} {spec.metadata[key]:,}"
            for key, word in (("least", "at least"), ("most", "at most"))
            if spec.metadata[key] is not None
        ]
        meaning = spec.metadata["doc"] + (f" ({', '.join(bounds)})" if bounds else "")
        lines.append(f"| `{name}` | {_default(spec.default)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, float) and value >= 86_400 and value % 86_400 == 0:
        return f"`{value:_}` ({value / 86_400:g} days)"
    if isinstance(value, int) and value >= 10_000:
        return f"`{value:_}`"
    return f"`{value!r}`"


def headings(page: str) -> list[str]:
    """The headings above the page's tables of settings, in order."""
    return [
        page[: found.start()].rpartition("\n## ")[2].partition("\n")[0] for found in _TABLE.finditer(page)
    ]


def renewed(page: str) -> str:
    """The page with all its tables made anew, each from the heading above it."""
    return _TABLE.sub(
        lambda found: table(GROUPS[page[: found.start()].rpartition("\n## ")[2].partition("\n")[0]]), page
    )


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
