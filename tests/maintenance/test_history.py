"""What is known of each duty's runs: when, for how long, with which error, and whether it is late."""

from __future__ import annotations

import pytest
from django.db import DatabaseError

from bench.runtime.servers import RedisServer
from queue_app import conf
from queue_app.dispatch import connection, keys
from queue_app.lifecycle.recovery import rebuild
from queue_app.maintenance import history
from queue_app.maintenance.duty import LeaderTerm
from queue_app.maintenance.leader import DUTIES
from tests.support.jobs import jobs
from tests.support.leading import depose, leader
from tests.support.made_duties import make_duty
from tests.support.marks import committed

pytestmark = committed


def test_every_run_is_noted_and_the_next_leader_goes_on_counting() -> None:
    rebuild.at_once(connection.client())
    jobs(2)
    first = leader("a")
    first.step()
    client = connection.client()
    found = history.read(client)
    assert set(found) == {duty.name for duty in DUTIES}
    for name, known in found.items():
        assert (known.runs, known.errors, known.error, known.token) == (1, 0, "", 1), name
        assert known.at == known.good_at > 0 and known.seconds >= 0
        assert not known.failing
    depose("c")
    client.delete(keys.leader())
    leader("b").step()
    assert {(known.runs, known.leader, known.token) for known in history.read(client).values()} == {
        (2, "b", 3)
    }


def test_a_failing_duty_is_visible_said_once_and_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [
        DatabaseError("no such column"),
        DatabaseError("no such column"),
        ZeroDivisionError("one by none"),
    ]

    def bad(term: LeaderTerm) -> int:
        if errors:
            raise errors.pop(0)
        return 7

    one = leader(
        "a", make_duty("bad", 0, bad, "fails thrice"), make_duty("good", 0, lambda term: 2, "is fine")
    )
    client = connection.client()
    for round_, text in enumerate(("no such column", "no such column", "one by none"), 1):
        one.step()
        known = history.read(client)
        assert known["bad"].failing and text in known["bad"].error
        assert (known["bad"].runs, known["bad"].errors, known["bad"].good_at) == (round_, round_, 0.0)
        assert (known["good"].runs, known["good"].total, known["good"].failing) == (round_, 2 * round_, False)
    assert caplog.text.count("The duty 'bad' failed") == 2, "once for each error that is new"
    one.step()
    known = history.read(client)
    assert not known["bad"].failing and (known["bad"].count, known["bad"].errors) == (7, 3)
    assert "one by none" in known["bad"].error, "the last error stays to be seen"


def test_a_duty_that_left_work_behind_is_due_again_at_once() -> None:
    def run(term: LeaderTerm) -> int:
        term.unfinished = len(ran) < 2
        ran.append(1)
        return 1

    ran: list[int] = []
    one = leader("a", make_duty("prune", 3_600, run, "has much to do"))
    for _ in range(5):
        one.step()
    assert len(ran) == 3


def test_a_duty_is_late_when_it_was_not_done_well_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    from queue_app import clock

    duty = make_duty("some", 10, lambda term: 0, "does something")
    assert history.History().late(duty), "never done"
    leader("a", duty).step()
    known = history.read(connection.client())["some"]
    assert not known.late(duty)
    monkeypatch.setattr(
        clock.current, "source", lambda source=clock.current.source: source() + 25 + 2 * conf.get().LEASE + 1
    )
    assert known.late(duty)


def test_an_outage_of_redis_is_kept_with_the_duty_that_met_it(redis_process: RedisServer) -> None:
    def meet(term: LeaderTerm) -> int:
        if not met:
            met.append(1)
            redis_process.kill()
            term.check()
        return 1

    met: list[int] = []
    one = leader("a", make_duty("some", 0, meet, "meets an outage"))
    with pytest.raises(connection.Unavailable):
        one.step()
    redis_process.start()
    one.step()
    known = history.read(connection.client())["some"]
    assert (known.runs, known.errors, known.failing) == (2, 1, False)
    assert known.error == "Redis cannot be reached.", "the API shows it, so it names no address"
