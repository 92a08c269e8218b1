"""Checks before a long-running command starts. Each failure is one line that says what to do, without a traceback."""

from __future__ import annotations

import logging

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError
from django.db import Error

from queue_app.dispatch import connection, fitness
from queue_app.models import Job
from queue_app.models.sql import write_alias
from queue_app.queries import rights

logger = logging.getLogger(__name__)


def check_stores() -> None:
    """Check that both stores answer.

    Raises:
        CommandError: names the store that does not, and what to do.
    """
    check_redis()
    check_database()
    for complaint in fitness.complaints(connection.client()):
        logger.warning("%s %s", complaint.text, complaint.hint)


def warn_of_rights() -> None:
    """Log a warning if no group has rights of queue_app."""
    if rights.no_group_has_rights():
        logger.warning("%s %s", rights.NO_RIGHTS, rights.HINT)


def check_redis() -> None:
    """Check that Redis answers.

    Raises:
        CommandError: says what is wrong, and what to do.
    """
    try:
        connection.client().ping()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from None
    except connection.Unavailable as error:
        raise CommandError(connection.explain(error)) from None


def check_database() -> None:
    """Check that the database of the jobs answers and has their tables.

    Raises:
        CommandError: says what is wrong, and what to do.
    """
    alias = write_alias()
    try:
        Job.objects.using(alias).exists()
    except Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if "no such table" in reason or ("does not exist" in reason and "relation" in reason):
            raise CommandError(
                f"The database {alias!r} has no tables of queue_app; run manage.py migrate."
            ) from None
        raise CommandError(
            f"The database {alias!r} cannot be reached ({reason}); start it, or correct DATABASES."
        ) from None
