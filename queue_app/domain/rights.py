"""The rights that verbs and pages ask for, as Django's permissions."""

from __future__ import annotations

from enum import StrEnum


class Right(StrEnum):
    """What an actor may be asked for: permissions of Django, with the app's label."""

    VIEW_JOB = "queue_app.view_job"
    VIEW_ATTEMPT = "queue_app.view_attempt"
    VIEW_DEADLETTER = "queue_app.view_deadletter"
    VIEW_QUEUE = "queue_app.view_queue"
    VIEW_SCHEDULE = "queue_app.view_schedule"
    VIEW_WORKER = "queue_app.view_worker"
    VIEW_AUDITEVENT = "queue_app.view_auditevent"
    VIEW_PAYLOAD = "queue_app.view_payload"
    SUBMIT_JOB = "queue_app.submit_job"
    OPERATE_JOB = "queue_app.operate_job"
    REPLAY_DEADLETTER = "queue_app.replay_deadletter"
    OPERATE_QUEUE = "queue_app.operate_queue"
    OPERATE_WORKER = "queue_app.operate_worker"  # reserved for commands to workers: no verb asks for it yet
    MANAGE_SCHEDULE = "queue_app.manage_schedule"
