"""A fresh checkout: every command works with its own virtual environment, and a deployment still needs its secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.runtime.workers import ROOT

#: What a developer's shell has not set.
UNSET = ("SECRET_KEY", "SECRET_KEY_FILE", "DATABASE_URL", "REDIS_URL", "DEBUG", "DJANGO_SETTINGS_MODULE")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the project's files and a virtual environment inside."""
    for name in ("manage.py", "queue_app", "dashboard", "jobqueue_project"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "manage.py").unlink()
    (tmp_path / "manage.py").write_text((ROOT / "manage.py").read_text())
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def manage(folder: Path, python: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    code = "from django.conf import settings as s; print(s.DATABASES['default']['ENGINE'], s.QUEUE_APP['REDIS_URL'])"
    return subprocess.run(
        [str(python), "manage.py", "shell", "--verbosity", "0", "-c", code],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in UNSET} | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_command_works_without_any_setting(checkout: Path) -> None:
    done = manage(checkout, checkout / ".venv" / "bin" / "python")
    assert done.stdout == "django.db.backends.sqlite3 embedded://\n", done.stderr
    assert (checkout / "var" / "secret_key").stat().st_mode & 0o077 == 0, (
        "a key of its own, for its owner alone"
    )


@pytest.mark.parametrize(
    "variables",
    [{"DATABASE_URL": "sqlite:///var/other.sqlite3"}, {"REDIS_URL": "embedded://"}, {"DEBUG": "false"}],
)
def test_who_sets_a_part_of_a_deployment_must_set_its_secrets(
    checkout: Path, variables: dict[str, str]
) -> None:
    done = manage(checkout, checkout / ".venv" / "bin" / "python", **variables)
    assert done.returncode == 2 and "SECRET_KEY is not set" in done.stderr


def test_so_must_who_has_a_file_of_settings(checkout: Path) -> None:
    (checkout / ".env").write_text("ALLOWED_HOSTS=jobs.example\n")
    done = manage(checkout, checkout / ".venv" / "bin" / "python")
    assert done.returncode == 2 and "SECRET_KEY is not set" in done.stderr


def test_so_must_a_python_from_elsewhere(checkout: Path) -> None:
    """That of a container, for example: an image that was started without its variables."""
    done = manage(checkout, Path(sys.prefix) / "bin" / "python")
    assert done.returncode == 2 and "SECRET_KEY is not set" in done.stderr


def test_the_web_server_has_no_such_way(checkout: Path) -> None:
    done = subprocess.run(
        [str(checkout / ".venv" / "bin" / "python"), "-c", "import jobqueue_project.wsgi"],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if name not in UNSET},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "SECRET_KEY is not set" in done.stderr
