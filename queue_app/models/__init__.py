"""The record: what these rows say is true."""

from queue_app.models.attempt import Attempt
from queue_app.models.audit_event import AuditEvent
from queue_app.models.dead_letter import DeadLetter
from queue_app.models.job import Job
from queue_app.models.leadership import Leadership
from queue_app.models.queue import Queue
from queue_app.models.schedule import Schedule
from queue_app.models.worker import Worker

__all__ = ["Attempt", "AuditEvent", "DeadLetter", "Job", "Leadership", "Queue", "Schedule", "Worker"]
