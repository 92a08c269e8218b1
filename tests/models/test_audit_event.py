"""Audit events: they are added, and neither changed nor deleted until their retention is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, transaction
from django.test import override_settings

from queue_app import clock
from queue_app.dispatch import connection
from queue_app.domain import ids
from queue_app.exceptions import AppendOnly, LeadershipLost
from queue_app.lifecycle import prune
from queue_app.maintenance.prune_record import PruneRecord
from queue_app.models import AuditEvent
from tests.support.factories import AuditEventFactory
from tests.support.jobs import term_of

pytestmark = pytest.mark.django_db

CHANGES: list[Callable[[AuditEvent], Any]] = [
    lambda event: event.save(),
    lambda event: event.save(update_fields=["actor"]),
    lambda event: event.delete(),
    lambda event: AuditEvent.objects.update(actor="nobody"),
    lambda event: AuditEvent.objects.filter(pk=event.pk).delete(),
    lambda event: AuditEvent.objects.bulk_update([event], ["actor"]),
    lambda event: AuditEvent.objects.update_or_create(pk=event.pk, defaults={"actor": "nobody"}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_an_event_that_is_written_stays_as_it_is(change: Callable[[AuditEvent], Any]) -> None:
    event = AuditEventFactory(actor="ada")
    event.actor = "nobody"
    with pytest.raises(AppendOnly):
        change(event)
    assert AuditEvent.objects.get().actor == "ada"


def test_a_new_one_never_takes_the_place_of_another() -> None:
    event = AuditEventFactory(actor="ada")
    with pytest.raises(IntegrityError), transaction.atomic():
        AuditEvent(pk=event.pk, actor="nobody", actor_kind="user", verb="x", target_kind="job").save()
    assert AuditEvent.objects.get().actor == "ada"


def test_an_intent_has_at_most_one_result() -> None:
    intent = AuditEventFactory(phase="intent")
    AuditEventFactory(phase="result", intent_id=intent.pk)
    for wrong in (
        {"phase": "result", "intent_id": intent.pk},
        {"phase": "result"},
        {"phase": "done", "intent_id": ids.new_id()},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            AuditEventFactory(**wrong)
    assert AuditEvent.objects.count() == 2


def test_the_rights_are_made_by_the_migration() -> None:
    found = set(
        Permission.objects.filter(content_type__app_label="queue_app").values_list("codename", flat=True)
    )
    assert found >= {
        "view_payload",
        "submit_job",
        "operate_job",
        "replay_deadletter",
        "operate_queue",
        "operate_worker",
        "manage_schedule",
        "view_auditevent",
    }


# Retention


def aged(days: float) -> AuditEvent:
    return AuditEventFactory(at=clock.now() - timedelta(days=days))


def kept() -> set[Any]:
    return set(AuditEvent.objects.values_list("pk", flat=True))


def test_the_duty_prune_deletes_events_whose_retention_is_over(settings: Any) -> None:
    settings.QUEUE_APP = {**settings.QUEUE_APP, "AUDIT_RETENTION": 30 * 86_400.0}
    old, young = aged(31), aged(29)
    assert PruneRecord().run(term_of(connection.client())) == 1
    assert kept() == {young.pk} and old.pk not in kept()


def test_events_are_kept_for_a_year_unless_the_setting_says_otherwise() -> None:
    aged(366)
    young = aged(364)
    assert prune.prune_audit_events() == 1
    assert kept() == {young.pk}


@override_settings(QUEUE_APP={"AUDIT_RETENTION": None})
def test_none_keeps_them_for_ever() -> None:
    aged(5_000)
    assert prune.prune_audit_events() == 0 and len(kept()) == 1


@override_settings(QUEUE_APP={"AUDIT_RETENTION": 0.0})
def test_a_batch_is_bounded_and_takes_the_oldest() -> None:
    events = [aged(days) for days in (1, 3, 2)]
    assert prune.prune_audit_events(limit=2) == 2
    assert kept() == {events[0].pk}


def test_a_deposed_leader_deletes_none() -> None:
    aged(5_000)

    def deposed() -> None:
        raise LeadershipLost

    with pytest.raises(LeadershipLost):
        prune.prune_audit_events(check=deposed)
    assert len(kept()) == 1
