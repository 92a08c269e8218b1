"""Every exception of the package. A class's docstring is its default message (a habit of procrastinate)."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import PermissionDenied


class QueueAppError(Exception):
    """Something went wrong in queue_app."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))


class InvalidJob(QueueAppError, ValueError):
    """The job cannot be enqueued as asked."""


class InvalidArguments(InvalidJob):
    """The arguments are not JSON."""


class PayloadTooLarge(InvalidArguments):
    """The arguments are larger than PAYLOAD_LIMIT."""


class InvalidOption(InvalidJob):
    """A task or call option is wrong."""


class InvalidTaskDefinition(QueueAppError, ValueError):
    """The function cannot be a task."""


class UnknownTask(QueueAppError, LookupError):
    """No task of this name is known here."""


class JobDoesNotExist(QueueAppError, LookupError):
    """There is no such job."""


class IllegalTransition(QueueAppError):
    """The job is not in a state that allows this."""


class AppendOnly(QueueAppError):
    """Audit events are neither changed nor deleted."""


class NotPermitted(QueueAppError, PermissionDenied):
    """The actor lacks a right.

    Attributes:
        right: the permission that is missing, such as `queue_app.operate_job`.
    """

    def __init__(self, right: str) -> None:
        super().__init__(f"You need the right {right} for this.")
        self.right = right


class LeadershipLost(QueueAppError):
    """This process no longer leads: another one does the duties now."""


class StoreUnavailable(QueueAppError):
    """The database or Redis cannot be reached.

    Attributes:
        public: the same for answers to machines, without the address of the store.
    """

    def __init__(self, message: str = "", public: str = "A store cannot be reached.") -> None:
        super().__init__(message or public)
        self.public = public


class SoftTimeout(Exception):
    """The attempt has run longer than its time limit; raised inside the task, which may clean up."""


class Cancelled(BaseException):
    """The job was cancelled while it ran; raised inside the task, which may clean up.

    It is no `Exception`, like `asyncio.CancelledError`: a handler of errors must not keep a cancelled task going. Code
    that catches it must raise it again.
    """

    def __init__(self, message: str = "The job was cancelled.") -> None:
        super().__init__(message)


class Control(Exception):
    """Base of the exceptions by which a task decides how its job goes on."""


class Retry(Control):
    """Try again, counting this attempt as failed.

    Args:
        message: Why, kept with the attempt.
        after: Seconds (or a timedelta, or an aware datetime) until the next attempt; None leaves it to the
            task's backoff.
    """

    def __init__(self, message: str = "", *, after: float | timedelta | datetime | None = None) -> None:
        super().__init__(message)
        self.after = after


class Snooze(Control):
    """Run again later, without counting this attempt as failed.

    Args:
        after: Seconds (or a timedelta, or an aware datetime) until the next attempt.
        message: Why, kept with the attempt.
    """

    def __init__(self, after: float | timedelta | datetime, message: str = "") -> None:
        super().__init__(message)
        self.after = after


class Discard(Control):
    """Give up at once: no further attempt; the job goes to the dead letters with this message."""


class ProcessDied(Exception):
    """The process that ran the attempt died."""


class HardTimeout(Exception):
    """The attempt did not end within its hard time limit; its process was killed."""
