"""`manage.py jobworker`: another name of `runworker`, for projects where Django Channels has taken that one."""

from queue_app.management.commands.runworker import Command

__all__ = ["Command"]
