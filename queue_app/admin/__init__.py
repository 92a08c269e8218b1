"""Django admin for operators: the record to read and search, and the verbs of `operations` as actions."""

from queue_app.admin.attempts import AttemptAdmin
from queue_app.admin.audit import AuditEventAdmin
from queue_app.admin.dead_letters import DeadLetterAdmin
from queue_app.admin.jobs import JobAdmin
from queue_app.admin.queues import QueueAdmin
from queue_app.admin.schedules import ScheduleAdmin
from queue_app.admin.workers import WorkerAdmin

__all__ = [
    "AttemptAdmin",
    "AuditEventAdmin",
    "DeadLetterAdmin",
    "JobAdmin",
    "QueueAdmin",
    "ScheduleAdmin",
    "WorkerAdmin",
]
