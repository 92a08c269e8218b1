"""The project's settings, with the tasks of the chaos driver and times that let recoveries fit into a short run."""

from __future__ import annotations

import json
import os

from jobqueue_project.settings import *  # noqa: F403
from jobqueue_project.settings import INSTALLED_APPS, QUEUE_APP

INSTALLED_APPS = [*INSTALLED_APPS, "bench.chaos"]
QUEUE_APP = QUEUE_APP | json.loads(os.environ.get("CHAOS_QUEUE_APP", "{}"))
