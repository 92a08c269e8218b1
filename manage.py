#!/usr/bin/env python
"""The project's command line: `python manage.py help` lists what it can do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Commands for a first look, which need no setup anywhere, not even a SECRET_KEY.
LOCAL_COMMANDS = ("demo", "serve")
#: Who sets one of these has a deployment, and must set the rest of it.
DEPLOYMENT = ("SECRET_KEY", "SECRET_KEY_FILE", "DATABASE_URL", "REDIS_URL", "DEBUG")
ROOT = Path(__file__).resolve().parent


def is_local(command: str) -> bool:
    """Whether a command may use the checkout's own key and embedded stores.

    Commands for a first look may. So may all others if a virtual environment inside the checkout runs them, and nothing
    of a deployment is set.
    """
    if command in LOCAL_COMMANDS:
        return True
    is_set_up = (ROOT / ".env").exists() or any(os.environ.get(name) for name in DEPLOYMENT)
    return not is_set_up and Path(sys.prefix).is_relative_to(Path(__file__).absolute().parent)


def main(argv: list[str]) -> None:
    """Run one management command; a wrong setting ends it with one line and exit code 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobqueue_project.settings")
    if is_local(argv[1] if len(argv) > 1 else ""):
        os.environ.setdefault("SECRET_KEY_FILE", str(ROOT / "var" / "secret_key"))
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.stderr.write("manage.py: Django is not installed in this Python: run `make install`.\n")
        sys.exit(2)
    try:
        execute_from_command_line(argv)
    except ImproperlyConfigured as error:
        if "--traceback" in argv:
            raise
        sys.stderr.write(f"manage.py: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv)
