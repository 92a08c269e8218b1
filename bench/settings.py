"""The project's settings, with the tasks of the benches; the stores come from the environment, as ever."""

from __future__ import annotations

from jobqueue_project.settings import *  # noqa: F403
from jobqueue_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "bench"]
