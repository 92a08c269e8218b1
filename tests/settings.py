"""The project's settings as tests want them, in this process and in the workers that tests start."""

from __future__ import annotations

import json
import os

# For tools that read settings but need no store (types, migrations); tests/conftest.py sets its own.
os.environ.setdefault("SECRET_KEY", "only for tests")
os.environ.setdefault("DATABASE_URL", "sqlite:///var/checks.sqlite3")

from jobqueue_project.settings import *
from jobqueue_project.settings import INSTALLED_APPS, QUEUE_APP

INSTALLED_APPS = [*INSTALLED_APPS, "tests.app"]  # its tasks.py is found like any app's
QUEUE_APP = QUEUE_APP | json.loads(os.environ.get("TEST_QUEUE_APP", "{}"))  # set by the `worker` fixture
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
