"""The wheel: what is in it, and what a site finds that installs it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from bench.runtime.workers import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


@pytest.fixture(scope="module")
def metadata(wheel: Path, names: list[str]) -> Message:
    (name,) = (name for name in names if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(zipfile.ZipFile(wheel).read(name).decode())


def test_it_has_the_app_alone(names: list[str]) -> None:
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"queue_app"}


def test_it_has_all_files_of_the_app(names: list[str]) -> None:
    done = subprocess.run(
        ["git", "ls-files", "queue_app"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= set(names)
    assert {"queue_app/py.typed", "queue_app/dispatch/lua/claim.lua"} <= set(names)


def test_extras_install_something_on_every_python(metadata: Message) -> None:
    extras = [one for one in metadata.get_all("Requires-Dist", []) if "extra ==" in one]
    assert {one.partition("extra == ")[2].strip("\"'") for one in extras} == {
        "api",
        "backport",
        "embedded",
        "fast",
        "postgresql",
    }
    assert not [one for one in extras if "python_version" in one]


def test_a_site_that_installs_it_can_have_a_dashboard_of_its_own(wheel: Path, tmp_path: Path) -> None:
    """`startapp dashboard` refuses a name that something on the path has already."""
    unpacked, site = tmp_path / "site-packages", tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(unpacked)
    site.mkdir()
    code = f"""
import sys
sys.path.insert(0, {str(unpacked)!r})
import queue_app
assert {str(unpacked)!r} in queue_app.__file__
from django.core.management import call_command
call_command('startapp', 'dashboard')
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and (site / "dashboard" / "apps.py").exists(), done.stderr


def test_its_types_are_seen(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "stubs")
    (tmp_path / "tasks.py").write_text(
        "from queue_app import Task, task\n\n\n@task\ndef add(a: int, b: int) -> int:\n    return a + b\n\n\n"
        "x: int = add\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", sys.executable, "tasks.py"],
        cwd=tmp_path,
        env={"PATH": "", "MYPYPATH": str(tmp_path / "stubs"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert 'expression has type "Task"' in done.stdout, done.stdout + done.stderr
