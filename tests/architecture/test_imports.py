"""What importing costs and needs: nothing for the package itself, and a Tasks API only for the backend."""

from __future__ import annotations

import os
import subprocess
import sys

import django

from tests.architecture.imports import ROOT, modules

#: These are the Tasks API's side of the product; everything else must do without one.
OF_TASKS_API = {
    "queue_app.backend",
    "queue_app.tasks_api.compat",
    "queue_app.tasks_api.results",
    "queue_app.tasks_api.task_objects",
    "queue_app.tasks_api.task_signals",
}

#: Hides installed packages from the import system, as if they were not there.
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hidden(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in {names!r} else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, on settings that need no store."""
    environment = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "TEST_QUEUE_APP")}
    environment["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_importing_the_package_imports_nothing_else() -> None:
    done = run(
        "import sys, queue_app\n"
        "print([m for m in sys.modules if m.startswith('queue_app.') or m in ('django', 'redis')])"
    )
    assert done.stdout == "[]\n", done.stderr


def test_the_packages_names_are_found_late() -> None:
    done = run(
        "import django; django.setup()\n"
        "from queue_app import *\n"
        "import queue_app\n"
        "print(task.__module__, Retry.__module__)\n"
        "try:\n    queue_app.tasc\n"
        "except AttributeError as error:\n    print(error)"
    )
    assert done.stdout == (
        "queue_app.tasks.task queue_app.exceptions\nmodule 'queue_app' has no attribute 'tasc'\n"
    ), done.stderr


def test_no_tasks_api_is_needed() -> None:
    # Django 6 brings its own and needs it itself; there it must at least not be asked for by us.
    names = {"django_tasks"} if django.VERSION >= (6, 0) else {"django_tasks", "django.tasks"}
    rest = sorted(set(modules("queue_app")) - OF_TASKS_API)
    done = run(
        HIDE.format(names=names)
        + f"""
import importlib
import django
django.setup()
for name in {rest!r}:
    importlib.import_module(name)

from queue_app import task
task(importlib.import_module("tests.architecture.imports").modules)
print([name for name in {sorted(OF_TASKS_API)!r} if name in sys.modules])
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


if django.VERSION < (6, 0):  # which always has a Tasks API

    def test_the_backend_says_what_is_missing_without_one() -> None:
        done = run(
            HIDE.format(names={"django_tasks", "django.tasks"})
            + "import django; django.setup()\nimport queue_app.backend"
        )
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert "queue_app.backend needs Django 6.0 or newer, or the package django-tasks" in last
        assert "queue_app.task" in last


def test_the_backend_is_built_before_the_apps_are_ready() -> None:
    """`@task` in an apps.py builds it then; neither models nor Redis may be asked for."""
    done = run(
        """
import django
from django.conf import settings
settings.INSTALLED_APPS  # read, but nothing is set up
from queue_app.tasks_api.compat import task_backends
from django.apps import apps
backend = task_backends["default"]
import sys
print(apps.ready, type(backend).__name__, [m for m in sys.modules if m.startswith("queue_app.models")])
"""
    )
    assert done.stdout == "False JobQueueBackend []\n", done.stderr
