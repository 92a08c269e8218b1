"""The tests' own tools: a leak is seen, a wait ends, a leg that cannot run is not overlooked."""

from __future__ import annotations

import re

import pytest
import redis

from tests import run
from tests.support.leaks import undocumented_keys
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until


def test_documented_keys_are_no_leak_and_others_are(clean_redis: redis.Redis) -> None:
    clean_redis.set("{jq:main}:mail:body", "")
    clean_redis.set("{other-prefix:b-c_1}:a.b-c_1:ready:-50:tenant 7/é", "")
    clean_redis.set("{jq:post}:epoch", "")
    assert undocumented_keys(clean_redis) == []
    strange = ["{jq:main}:mail:bodies", "jq:mail:body", "{jq:main}:body", "{jq}:body", "tmp"]
    clean_redis.mset(dict.fromkeys(strange, ""))
    assert undocumented_keys(clean_redis) == sorted(strange)
    clean_redis.flushall()


def test_each_test_starts_with_a_redis_that_has_an_epoch_and_nothing_else(clean_redis: redis.Redis) -> None:
    assert clean_redis.keys() == [b"{jq:main}:epoch"]
    run_id = clean_redis.info("server")["run_id"].encode()
    assert re.fullmatch(rb"%s\|[0-9a-f-]{36}\|whole" % run_id, clean_redis.get("{jq:main}:epoch"))


def test_a_killed_redis(redis_process: RedisServer) -> None:
    redis_process.kill()
    assert not redis_process.answers()


def test_is_up_again_in_the_next_test(redis_process: RedisServer) -> None:
    assert redis_process.answers()


@pytest.mark.django_db
def test_workers_need_committed_rows(request: pytest.FixtureRequest) -> None:
    with pytest.raises(pytest.fail.Exception, match="transaction=True"):
        request.getfixturevalue("worker")


def test_waiting_returns_the_value_or_says_what_was_missing() -> None:
    values = iter([0, None, 7])
    assert wait_until(lambda: next(values)) == 7
    with pytest.raises(AssertionError, match=r"not within 0.01 s: rain \(last value: 0\)"):
        wait_until(lambda: 0, 0.01, lambda: "rain")


@pytest.mark.parametrize(
    "results,arguments,required,code",
    [
        (("passed", "passed"), [], False, 0),
        (("passed", "FAILED (exit code 1)"), [], False, 1),
        (("passed", "SKIPPED"), [], False, 0),
        (("passed", "SKIPPED"), [], True, 1),
        (("SKIPPED", "SKIPPED"), [], False, 1),
        (("passed", "no test ran"), [], False, 1),
        (("passed", "no test ran"), ["tests/test_support.py"], True, 0),
        (("no test ran", "no test ran"), ["-k", "nothing"], False, 1),
    ],
)
def test_the_legs_together(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    results: tuple[str, str],
    arguments: list[str],
    required: bool,
    code: int,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("REQUIRE_ALL_LEGS", "1" if required else "")
    by_leg = {leg: (result, 1.0) for leg, result in zip(run.LEGS, results, strict=False)}
    monkeypatch.setattr(run, "run_legs", lambda arguments: by_leg)
    assert run.main(arguments) == code
    said = capsys.readouterr().out
    assert ("!!! SKIPPED" in said) == ("SKIPPED" in results)


def test_a_leg_without_its_server_is_told_apart_from_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    # No PostgreSQL is found by a user that cannot run any.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p tests.support.without_postgresql")
    assert run.Leg("workers", ["-q", "tests/test_deployment.py"], None).wait() == "SKIPPED"


def test_all_legs_run_at_once_and_show_all_they_say(capfd: pytest.CaptureFixture[str]) -> None:
    """The tests of whole workers are apart on PostgreSQL."""
    files = ["tests/integration/test_prune.py", "tests/acceptance/test_atomic.py"]
    results = run.run_legs(["-q", *files, "-k", "each_state_has_its_retention or killed_at_any_moment"])
    said = capfd.readouterr().out
    assert [result for result, _ in results.values()] == ["passed"] * 3, said
    assert re.findall(r"^(\d+) passed", said, re.MULTILINE) == ["1", "1", "1"]
    assert (
        said.index("tests on sqlite")
        < said.index("tests on postgresql ──")
        < said.index("tests on workers ──")
    )
