"""Checks whether any group has rights of queue_app."""

from __future__ import annotations

from django.apps import apps
from django.db import Error, router

from queue_app.domain.rights import Right

#: The warning when no group has any, and what to do.
NO_RIGHTS = "No group has any right of queue_app: only superusers can use its pages and its API."
HINT = "Give the rights to a group, as docs/rights.md says."


def permission_database() -> str | None:
    """The alias of the database with Django's permissions; None where django.contrib.auth is not installed."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    from django.contrib.auth.models import Group

    return router.db_for_read(Group)


def no_group_has_rights() -> bool:
    """Whether no group has any right. Also False where this cannot be checked: a warning must not stop a command."""
    using = permission_database()
    if using is None:
        return False
    from django.contrib.auth.models import Group

    names = [right.partition(".")[2] for right in Right]
    try:
        return (
            not Group.objects.using(using)
            .filter(permissions__content_type__app_label="queue_app", permissions__codename__in=names)
            .exists()
        )
    except Error:  # the tables do not exist yet
        return False
