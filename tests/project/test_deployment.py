"""The container files fit each other and the project, and hold no secrets."""

from __future__ import annotations

import re

import pytest
import yaml

from bench.runtime.workers import ROOT


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_every_service_is_ready_before_who_needs_it(compose: dict) -> None:
    services = compose["services"]
    assert set(services) == {"redis", "postgres", "migrate", "web", "worker"}
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed], (
                    f"{name} waits for {needed}, which never says it is healthy"
                )
            else:
                assert (needed, how["condition"]) == ("migrate", "service_completed_successfully")


def test_volumes_and_files_exist(compose: dict) -> None:
    named = {mount.split(":")[0] for s in compose["services"].values() for mount in s.get("volumes", [])}
    assert named == set(compose["volumes"])
    for service in compose["services"].values():
        if build := service.get("build"):
            assert (ROOT / build["dockerfile"]).is_file()
    for line in re.findall(r"(?m)^COPY (.+) \S+$", (ROOT / "deploy" / "Dockerfile").read_text()):
        for source in line.split():
            assert (ROOT / source).exists(), f"the Dockerfile copies {source}"


def test_secrets_come_from_outside(compose: dict) -> None:
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    assert not re.search(r"(?im)^\s*(env|arg)\b.*(secret|password|token|_url)", dockerfile)
    assert re.search(r"(?m)^USER app$", dockerfile)
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("SECRET|PASSWORD", name):
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name} must be required from the environment"


def test_a_stopped_worker_has_time_to_finish(compose: dict) -> None:
    from queue_app import conf

    grace = compose["services"]["worker"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > conf.Settings().GRACE


def test_the_workers_health_check_is_a_command_of_ours(compose: dict) -> None:
    from django.core.management import get_commands

    kind, *words, verb = compose["services"]["worker"]["healthcheck"]["test"]
    assert (kind, words) == ("CMD", ["python", "manage.py"])
    assert get_commands()[verb] == "queue_app"


def test_ci_runs_the_one_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
