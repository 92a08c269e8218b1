"""System checks: wrong settings are found at start, with what to do about them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured

from queue_app import conf

BACKEND = "queue_app.backend.JobQueueBackend"


@register("queue_app")
def check_settings(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """QUEUE_APP can be read."""
    try:
        conf.build(getattr(settings, "QUEUE_APP", {}))
    except ImproperlyConfigured as error:
        return [Error(str(error), id="queue_app.E001")]
    return []


@register("queue_app")
def check_runworker(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """No other app takes the name of our command."""
    configs = list(apps.get_app_configs())
    ours = next((i for i, config in enumerate(configs) if config.name == "queue_app"), None)
    if ours is None:
        return []
    found: list[CheckMessage] = []
    for i, config in enumerate(configs):
        if config.name == "queue_app" or find_spec(f"{config.name}.management") is None:
            continue
        if find_spec(f"{config.name}.management.commands") is None:
            continue
        if find_spec(f"{config.name}.management.commands.runworker") is None:
            continue
        who = "queue_app's" if ours < i else f"{config.name}'s"
        found.append(
            Warning(
                f"Both queue_app and {config.name} have a command `runworker`; {who} wins.",
                hint="Use `manage.py jobworker`, which is the same as queue_app's runworker.",
                id="queue_app.W001",
            )
        )
    return found


@register("queue_app")
def check_sqlite(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Writers of a SQLite file wait for each other."""
    from queue_app.models.sql import write_alias

    alias = write_alias()
    database = settings.DATABASES.get(alias, {})
    mode = str(database.get("OPTIONS", {}).get("transaction_mode") or "DEFERRED").upper()
    if not str(database.get("ENGINE", "")).endswith("sqlite3") or mode in ("IMMEDIATE", "EXCLUSIVE"):
        return []
    return [
        Warning(
            f"DATABASES[{alias!r}] is SQLite with transactions that begin {mode}: where several processes write, those"
            " that have read before fail at once with 'database is locked', whatever the timeout.",
            hint="Set OPTIONS={'transaction_mode': 'IMMEDIATE', 'timeout': 20} for it.",
            id="queue_app.W002",
        )
    ]


@register("queue_app", deploy=True)
def check_redis(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """Redis is configured so that nothing is lost. With --deploy alone: it asks the server."""
    from queue_app.dispatch import connection, fitness

    try:
        found = fitness.complaints(connection.client(2.0))
    except (*connection.Unavailable, ImproperlyConfigured):
        return []  # it may not be there where checks are run
    return [Warning(one.text, hint=one.hint, id=f"queue_app.W{one.number:03}") for one in found]


@register("queue_app")
def check_task_modules(app_configs: Any, **_: Any) -> list[CheckMessage]:
    """What TASK_MODULES names is there, as far as that can be said without importing it."""
    try:
        modules = conf.build(getattr(settings, "QUEUE_APP", {})).TASK_MODULES
    except ImproperlyConfigured:
        return []  # check_settings says it
    return [
        Warning(
            f"TASK_MODULES of QUEUE_APP names {module!r}, and there is no module {top!r} here.",
            hint="Correct its name, or take it out: workers import code of the installed apps anyway.",
            id="queue_app.W006",
        )
        for module in modules
        if find_spec(top := module.partition(".")[0]) is None
    ]


@register(Tags.database)
def check_rights(app_configs: Any, databases: Any = None, **_: Any) -> list[CheckMessage]:
    """Warn while no group has any right. Runs only with --database, as it reads that database."""
    from queue_app.queries import rights

    if rights.permission_database() not in (databases or ()) or not rights.no_group_has_rights():
        return []
    return [Warning(rights.NO_RIGHTS, hint=rights.HINT, id="queue_app.W008")]


def load_tasks_api() -> None:
    """Load the Tasks API if TASKS names our backend, so that its own system check is registered."""
    tasks = getattr(settings, "TASKS", None) or {}
    if any(isinstance(params, dict) and params.get("BACKEND") == BACKEND for params in tasks.values()):
        root = "django.tasks" if find_spec("django.tasks") else "django_tasks"
        if find_spec(root) is None:
            return  # the backend itself says so when it is first used
        import_module(f"{root}.checks")
        import_module(f"{root}.signals")


def load_results() -> None:
    """In a worker: let the Tasks API's signals be sent, where there is a Tasks API."""
    if find_spec("django.tasks") or find_spec("django_tasks"):
        from queue_app.tasks_api import task_signals  # noqa: F401 - connects its receiver
