"""Fencing tokens: each leadership gets a number that no earlier one had."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from queue_app.models.leadership import Leadership
from queue_app.models.sql import write_alias

#: The leader of the maintenance duties.
MAINTENANCE = "maintenance"


def next_token(name: str = MAINTENANCE) -> int:
    """Take the next token. It is spent, also if its taker does not become the leader.

    Raises:
        DatabaseError: none was taken.
    """
    using = write_alias()
    rows = Leadership.objects.using(using)
    with transaction.atomic(using=using):
        if not rows.filter(pk=name).update(token=F("token") + 1):
            rows.get_or_create(pk=name)
            rows.filter(pk=name).update(token=F("token") + 1)
        return rows.values_list("token", flat=True).get(pk=name)
