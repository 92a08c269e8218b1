"""The settings of the version's own project, with the tasks of the comparison."""

from __future__ import annotations

from jobqueue_project.settings import *  # noqa: F403
from jobqueue_project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "jq_bench"]
ALLOWED_HOSTS = ["*"]
