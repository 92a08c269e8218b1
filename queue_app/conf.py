"""Every setting, with its default, in one typed object read from the dict `QUEUE_APP`.

A wrong key or value raises `ImproperlyConfigured`, with "did you mean". The object is rebuilt when tests override the
setting.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from queue_app.domain.masking import REDIS_SCHEMES, is_clear, scheme_of
from queue_app.domain.setting_values import Retentions, check


def _setting(default: Any, doc: str, *, least: float | None = None, most: float | None = None) -> Any:
    return field(default=default, metadata={"doc": doc, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings; each field's `doc` is the text of docs/settings.md."""

    REDIS_URL: str = _setting(
        "redis://127.0.0.1:6379/0",
        "Where Redis is: `redis://`, `rediss://`, `unix:///path.sock`, or `embedded://` for a private server that"
        " is started when needed and shared by the processes of this project.",
    )
    KEY_PREFIX: str = _setting(
        "jq", "First part of every Redis key; several installations can share one Redis."
    )
    SHARDS: dict[str, str] | None = _setting(  # noqa: RUF009 - a field, like the others
        None,
        "Queue, or pattern such as `mail*` → shard. The keys of a shard have one hash tag, so they are on one node of a"
        " Redis Cluster. Queues that no pattern fits, and all if it is None, are in the shard `main`.",
    )
    PAYLOAD_LIMIT: int = _setting(262_144, "Most bytes of JSON that a job's arguments may have.", least=64)
    BODY_LIMIT: int = _setting(
        8_192,
        "Arguments longer than this many characters of JSON stay in the database; Redis carries a marker instead.",
        least=0,
    )
    RESULT_LIMIT: int = _setting(
        1_048_576, "Most bytes of JSON that a task may return; a larger result fails the attempt.", least=64
    )
    MAX_ATTEMPTS: int = _setting(
        4,
        "Attempts of a job of `queue_app.task` that says nothing else: the first and three retries.",
        least=1,
    )
    TASKS_MAX_ATTEMPTS: int = _setting(
        1,
        "The same for jobs of plain `django.tasks`, whose standard meaning of FAILED is one attempt.",
        least=1,
    )
    BACKOFF_BASE: float = _setting(2.0, "Seconds before the first retry.", least=0)
    BACKOFF_FACTOR: float = _setting(2.0, "Each later retry waits this many times longer.", least=1)
    BACKOFF_CAP: float = _setting(300.0, "Most seconds between two attempts.", least=0)
    BACKOFF_JITTER: str = _setting(
        "equal",
        "`full` (anything from 0 to the delay), `equal` (half the delay and anything up to it) or `none`.",
    )
    TIMEOUT: float | None = _setting(
        None,
        "Seconds after which a running task is interrupted; None: no limit unless the task has one.",
        least=0.01,
    )
    HARD_TIMEOUT_GRACE: float = _setting(
        5.0,
        "Seconds between the interruption (soft limit) and the killing of the child (hard limit).",
        least=0,
    )
    IMPORT_TIMEOUT: float = _setting(
        60.0,
        "Seconds that a child has to import the module of a job's task; then it is killed, and the job has caused a"
        " death (see `POISON_AFTER`).",
        least=0.1,
    )
    CANCEL_GRACE: float = _setting(
        10.0,
        "Seconds that a running job which was cancelled has to end before its child is killed.",
        least=0,
    )
    LEASE: float = _setting(
        15.0, "Seconds without a heartbeat after which another worker takes a worker's jobs back.", least=1
    )
    GRACE: float = _setting(
        25.0,
        "Seconds that a worker told to stop gives its running jobs before it kills and requeues them.",
        least=0,
    )
    CLAIM_MAX: int = _setting(
        500, "Most jobs that a child claims at once (while jobs are short).", least=1, most=2_000
    )
    SETTLE_MAX: int = _setting(
        1_000, "Most outcomes that are recorded in one transaction.", least=1, most=10_000
    )
    LONG_JOB: float = _setting(
        0.25,
        "Seconds after which a running job counts as long: the jobs claimed behind it are given back.",
        least=0.01,
    )
    RUNNING_AFTER: float = _setting(
        0.5, "Seconds after which a running job's row says `running`; until then Redis knows.", least=0.05
    )
    DUE_HORIZON: float = _setting(
        60.0, "Delayed jobs are loaded into Redis this many seconds before their time.", least=20
    )
    SWEEP_GRACE: float = _setting(
        5.0, "A waiting row older than this many seconds that Redis does not know is pushed again.", least=1
    )
    MAINTENANCE: bool = _setting(
        True, "Whether workers do the maintenance duties; False leaves them to `manage.py runmaintenance`."
    )
    POISON_AFTER: int = _setting(
        3, "A job whose worker process died this many times goes to the dead letters.", least=1
    )
    KEEP_SUCCEEDED: float | None = _setting(
        7 * 86_400.0, "Seconds that succeeded and cancelled jobs are kept; None: for ever.", least=0
    )
    KEEP_FAILED: float | None = _setting(
        90 * 86_400.0, "Seconds that failed and expired jobs are kept; None: for ever.", least=0
    )
    KEEP_TASKS: Retentions | None = _setting(  # noqa: RUF009 - a field, like the others
        None,
        "The same for single tasks, whatever their queue: dotted path → `{'succeeded': seconds, 'failed': seconds}`;"
        " either may be left out, or None.",
    )
    AUDIT_RETENTION: float | None = _setting(
        365 * 86_400.0, "Seconds that audit events are kept; None: for ever.", least=0
    )
    RELEASE: str = _setting("", "Name of the deployed release, shown with each worker.")
    TASK_MODULES: tuple[str, ...] = _setting(
        (),
        "Modules outside the installed apps that may have tasks: a list of dotted names. A package stands for all that"
        " is in it.",
    )


FIELDS = {f.name: f for f in dataclasses.fields(Settings)}


def did_you_mean(word: str, known: Any) -> str:
    """A hint such as ` Did you mean 'LEASE'?`, or nothing when no known word is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    if not near:  # a different case is the commonest slip of all
        near = [k for k in known if k.lower() == word.lower()]
    return f" Did you mean {near[0]!r}?" if near else ""


def build(values: Any) -> Settings:
    """The settings object of a `QUEUE_APP` dict.

    Raises:
        ImproperlyConfigured: names the key and the remedy.
    """
    if not isinstance(values, dict):
        raise ImproperlyConfigured(f"QUEUE_APP must be a dict of settings, not {type(values).__name__}.")
    checked = {}
    for name, value in values.items():
        if name not in FIELDS:
            raise ImproperlyConfigured(
                f"QUEUE_APP has the unknown setting {name!r}.{did_you_mean(str(name), FIELDS)}"
                " docs/settings.md lists them all."
            )
        checked[name] = check(FIELDS[name], value)
    result = Settings(**checked)
    if result.BACKOFF_JITTER not in ("full", "equal", "none"):
        raise ImproperlyConfigured(
            f"QUEUE_APP['BACKOFF_JITTER'] is {result.BACKOFF_JITTER!r}; use 'full', 'equal' or 'none'."
        )
    _check_url(result.REDIS_URL)
    if not result.KEY_PREFIX or any(c in result.KEY_PREFIX for c in "{}: \n"):
        raise ImproperlyConfigured(
            f"QUEUE_APP['KEY_PREFIX'] is {result.KEY_PREFIX!r}; it must not be empty nor contain '{{', '}}', ':' or"
            " spaces."
        )
    return result


def _check_url(url: str) -> None:
    scheme = scheme_of(url)
    if scheme not in REDIS_SCHEMES:
        raise ImproperlyConfigured(
            f"QUEUE_APP['REDIS_URL'] has the scheme {scheme!r}; use one of"
            f" {', '.join(s + '://' for s in REDIS_SCHEMES)}.{did_you_mean(scheme, REDIS_SCHEMES)}"
        )
    if not is_clear(url):  # it may hold a password, so it is not repeated
        raise ImproperlyConfigured(
            "QUEUE_APP['REDIS_URL'] cannot be read as a URL; use redis://user:password@host:port/0,"
            " unix:///path.sock or embedded:///folder, and write special characters of user and password as %XX"
            " (@ is %40, / is %2F, # is %23)."
        )


_current: Settings | None = None


def get() -> Settings:
    """The settings in force, read once."""
    global _current
    if _current is None:
        _current = build(getattr(django_settings, "QUEUE_APP", {}))
    return _current


def _forget(*, setting: str, **_: Any) -> None:
    global _current
    if setting == "QUEUE_APP":
        _current = None


setting_changed.connect(_forget, dispatch_uid="queue_app.conf")
