"""No answer, log line or output tells a secret of REDIS_URL, whatever real servers say; answers name no address."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from bench.runtime.servers import RedisServer
from bench.runtime.workers import ROOT
from queue_app import health
from queue_app.dispatch import connection
from queue_app.exceptions import StoreUnavailable
from queue_app.lifecycle import operate
from queue_app.queries import duties, stats
from tests.support.clients import basic
from tests.support.factories import JobFactory

PASSWORD = "zqx/p@ss?w&rd=zqx"
USER = "zqxuser"
SPELLED = quote(PASSWORD, safe="")


@pytest.fixture
def account(redis_process: RedisServer) -> Iterator[None]:
    """A user of the real Redis that may do nothing but log in."""
    with redis_process.client() as client:
        client.acl_setuser(USER, enabled=True, passwords=[f"+{PASSWORD}"])
        yield
        client.acl_deluser(USER)


def urls(path: str) -> dict[str, str]:
    """What is wrong → a URL with the secrets in it."""
    return {
        "wrong password": f"unix://{USER}:{SPELLED}x@{path}?db=0",
        "wrong password in the query": f"unix://{path}?username={USER}&password={SPELLED}x",
        "no permission": f"unix://{USER}:{SPELLED}@{path}?db=0",
        "nobody there": f"redis://{USER}:{SPELLED}@127.0.0.1:1/0",
        "nobody there, query": f"redis://127.0.0.1:1/0?password={SPELLED}",
        "no such socket": f"unix:///nowhere/redis.sock?password={SPELLED}",
    }


NAMES = list(urls(""))


@pytest.fixture(params=NAMES)
def broken(request: Any, account: None, redis_process: RedisServer, settings: Any) -> str:
    """REDIS_URL leads to something that does not work; the URL."""
    socket = redis_process.url.removeprefix("unix://").partition("?")[0]
    url = urls(socket)[request.param]
    settings.QUEUE_APP = settings.QUEUE_APP | {"REDIS_URL": url}
    connection.forget()
    return url


def tells_nothing(text: str) -> None:
    for secret in ("zqx", SPELLED, quote(PASSWORD)):
        assert secret not in text, text


def names_no_place(text: str) -> None:
    tells_nothing(text)
    for word in ("redis.sock", "unix:", "redis:", "127.0.0.1", "nowhere", "REDIS_URL"):
        assert word not in text, text


def test_what_operators_read(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(connection.Unavailable) as caught:
        connection.client().set("x", 1)
    said = connection.explain(caught.value)
    tells_nothing(said)
    tells_nothing(connection.said(caught.value))
    assert "\n" not in said and ("Redis at " in said)
    with caplog.at_level(logging.WARNING):
        assert health.probe.is_ok("redis", health.redis) is False or "no permission" in broken
    tells_nothing(caplog.text)


@pytest.mark.django_db
def test_what_the_api_answers(broken: str, boss: Any, caplog: pytest.LogCaptureFixture) -> None:
    client, who = Client(), basic("boss", "secret")
    job = JobFactory()
    asks: list[Callable[[], Any]] = [
        lambda: client.get("/api/v1/stats/", **who),
        lambda: client.get("/api/v1/duties/", **who),
        lambda: client.post(f"/api/v1/jobs/{job.pk}/cancel/", content_type="application/json", **who),
        lambda: client.post(
            "/api/v1/jobs/cancel/", {"task": job.task}, content_type="application/json", **who
        ),
    ]
    for ask in asks:
        caplog.clear()
        answer = ask()
        assert answer.status_code == 503 and answer["Retry-After"]
        names_no_place(answer.content.decode())
        assert "Redis" in answer.json()["detail"] and "log" in answer.json()["detail"]
        tells_nothing(caplog.text)
        assert "Redis at " in caplog.text  # the operator's log has the reason, and where
    for path in ("/api/v1/queues/", f"/api/v1/jobs/{job.pk}/", "/health/ready/"):
        names_no_place(client.get(path, **who).content.decode())


@pytest.mark.django_db
def test_what_callers_get(broken: str) -> None:
    for call in (lambda: operate.cancel([JobFactory().pk]), duties.now, lambda: stats.over(60.0)):
        with pytest.raises(StoreUnavailable) as caught:
            call()
        tells_nothing(str(caught.value))
        names_no_place(caught.value.public)


@pytest.mark.parametrize("broken", ["wrong password", "nobody there, query"], indirect=True)
def test_what_a_command_prints(broken: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "checkworker"],
        cwd=ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "jobqueue_project.settings", "REDIS_URL": broken},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    tells_nothing(done.stdout + done.stderr)
    assert len(done.stderr.splitlines()) == 1
