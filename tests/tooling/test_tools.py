"""The tests' own tools: a leak is seen, a wait ends, a leg that cannot run is not overlooked."""

from __future__ import annotations

import re
from pathlib import Path

import django
import pytest
import redis

from bench.runtime.leaks import undocumented_keys
from bench.runtime.servers import RedisServer
from bench.runtime.waiting import wait_until
from queue_app.models import Job
from tests import run
from tests.support.page_costs import Cost, Table, measured


def test_documented_keys_are_no_leak_and_others_are(clean_redis: redis.Redis) -> None:
    clean_redis.set("{jq:main}:mail:body", "")
    clean_redis.set("{other-prefix:b-c_1}:a.b-c_1:ready:-50:tenant 7/é", "")
    clean_redis.set("{jq}:queues", "")
    assert undocumented_keys(clean_redis) == []
    strange = ["jq:mail:body", "tmp", "{jq:mail}:body", "{jq:main}:mail:bodies", "{jq}:body"]
    clean_redis.mset(dict.fromkeys(strange, ""))
    assert undocumented_keys(clean_redis) == strange
    clean_redis.flushall()


def test_each_test_starts_with_a_redis_that_has_an_epoch_alone(clean_redis: redis.Redis) -> None:
    assert clean_redis.keys() == [b"{jq:main}:epoch"]


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
        (("passed", "no test ran"), ["tests/tooling/test_tools.py"], True, 0),
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
    assert run.Leg("workers", ["-q", "tests/project/test_deployment.py"], None).wait() == "SKIPPED"


def test_slow_tests_run_only_when_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "test_both.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.slow\n@pytest.mark.django_db\ndef test_slow(): print('the figure is 7')\n\n"
        "def test_quick(): pass\n"
    )
    monkeypatch.setattr(run, "SLOW_LEGS", {"sqlite": {"TEST_DATABASE": "sqlite"}})
    arguments = ["-q", "-c", str(run.ROOT / "pyproject.toml"), "-p", "tests.conftest", str(tmp_path)]
    assert run.Leg("sqlite", arguments, None).wait() == "passed"
    assert "1 passed, 1 deselected" in capfd.readouterr().out
    assert run.main(["--slow", *arguments]) == 0
    said = capfd.readouterr().out
    assert "the figure is 7" in said and "1 passed, 1 deselected" in said


def test_all_legs_run_at_once_and_show_all_they_say(capfd: pytest.CaptureFixture[str]) -> None:
    """The tests of whole workers are apart on PostgreSQL."""
    files = ["tests/maintenance/test_prune.py", "tests/acceptance/test_atomic.py"]
    results = run.run_legs(["-q", *files, "-k", "each_state_has_its_retention or killed_at_any_moment"])
    said = capfd.readouterr().out
    assert [result for result, _ in results.values()] == ["passed"] * 3, said
    assert re.findall(r"^(\d+) passed", said, re.MULTILINE) == ["1", "1", "1"]
    assert (
        said.index("tests on sqlite")
        < said.index("tests on postgresql ──")
        < said.index("tests on workers ──")
    )


@pytest.mark.django_db
def test_statements_and_round_trips_are_counted(clean_redis: redis.Redis) -> None:
    clean_redis.ping()  # it is connected now
    with measured() as costs:
        assert not Job.objects.exists()
        with clean_redis.pipeline() as pipe:
            pipe.get("a").get("b").execute()
        clean_redis.get("c")
    assert costs == [Cost(sql=1, trips=2)]


@pytest.mark.parametrize(
    "name,few,many,said",
    [
        ("a GET", Cost(4, 1), Cost(4, 1), None),
        ("b GET", Cost(4, 0), Cost(33, 2), None),
        (
            "a GET",
            Cost(4, 1),
            Cost(33, 1),
            "   4   5   1  a GET  # why\n  33   ?   1  a GET, 30 rows\n  instead of",
        ),
        ("a GET", Cost(6, 2), Cost(6, 2), "   6   5   2  a GET  # why\n  instead of\n4 5 1 a GET # why"),
        (
            "b GET",
            Cost(4, 0),
            Cost(4, 0),
            "   4   5   0  b GET\n  instead of\n4 5 0 b GET\n33 34 2 b GET, 30 rows",
        ),
        ("c GET", Cost(7, 0), Cost(7, 0), "   7   ?   0  c GET"),
    ],
)
def test_a_cost_that_differs_is_told_as_the_line_to_write(
    name: str, few: Cost, many: Cost, said: str | None
) -> None:
    table = Table("4 5 1 a GET # why\n 4 5 0 b GET\n 33 34 2 b GET, 30 rows")
    assert table.names == {"a GET", "b GET"}
    if said is None:
        return table.compare({name: few}, {name: many})
    with pytest.raises(AssertionError) as caught:
        table.compare({name: few}, {name: many})
    assert said in str(caught.value)


def test_a_line_of_a_version_counts_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "4 4 0 a GET\n6 6 0 a GET, Django 5.2"
    for version, sql in (("5.2.19", 6), ("5.20", 4), ("6.1.3", 4)):
        monkeypatch.setattr(django, "get_version", lambda version=version: version)
        Table(text).compare({"a GET": Cost(sql, 0)}, {"a GET": Cost(sql, 0)})


@pytest.mark.parametrize("text", ["1 1 1 b GET\n1 1 1 a GET", "1 1 1 a GET\n2 1 1 a GET"])
def test_a_table_of_costs_is_in_order(text: str) -> None:
    with pytest.raises(AssertionError):
        Table(text)
