"""The one way in: a call is the same row and the same body, whoever enqueues it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from queue_app.domain import options
from queue_app.domain.envelope import dump_meta
from queue_app.exceptions import InvalidArguments, InvalidOption
from queue_app.models import Job
from queue_app.scheduling.task_options import options_of
from queue_app.tasks import producer, registry
from tests.app import dtasks, tasks
from tests.support.jobs import Child
from tests.support.marks import committed

pytestmark = committed

CALL: Any = (([1, "]"],), {"x": None})
DELAY = options.run_after(-60)


def configured(task: Any) -> Any:
    return task.using(queue_name="default", priority=5, run_after=DELAY, max_attempts=7, timeout=9.5)


def kept(task: Any, calls: list[Any]) -> list[str]:
    """As the leader enqueues for a schedule whose task it has not imported."""
    return producer.submit_kept(options_of(task.module_path, task), calls, DELAY)


WAYS: dict[str, Callable[[Any, list[Any]], list[str]]] = {
    "its own method": lambda task, calls: [result.id for result in task.enqueue_many(calls)],
    "submit": producer.submit,
    "by kept options": kept,
}


@pytest.mark.parametrize("kind", [tasks.echo, dtasks.echo], ids=["ours", "of the Tasks API"])
def test_all_ways_make_the_same_job(kind: Any) -> None:
    task = configured(kind)
    ids = [way(task, [CALL])[0] for way in WAYS.values()]
    ids.append(str(task.enqueue(*CALL[0], **CALL[1]).id))
    differ = {"id", "enqueued_at"}
    rows = [{k: v for k, v in row.items() if k not in differ} for row in Job.objects.values()]
    assert len(rows) == 4
    assert all(row == rows[0] for row in rows), rows
    assert (rows[0]["max_attempts"], rows[0]["timeout"], rows[0]["priority"]) == (7, 9.5, 5)
    claimed = Child().claim(4)
    assert sorted(d.id for d in claimed) == sorted(ids)
    assert {(d.task, d.backend, d.timeout, str(d.args), str(d.kwargs)) for d in claimed} == {
        (task.module_path, registry.alias_of(task), 9.5, str([*CALL[0]]), str(CALL[1]))
    }


@pytest.mark.parametrize("kind", [tasks.echo, dtasks.echo], ids=["ours", "of the Tasks API"])
def test_meta_is_carried_by_both_kinds(kind: Any) -> None:
    meta = {"actor": ["user", 7]}
    (job_id,) = producer.submit(kind, [CALL], meta)
    assert Job.objects.get(pk=job_id).meta == dump_meta(meta)
    (delivery,) = Child().claim(queue=kind.queue_name)
    assert delivery.meta == dump_meta(meta)
    with pytest.raises(InvalidOption, match="meta is"):
        producer.submit(kind, [CALL], {"actor": "x" * 3_000})


def test_if_one_call_is_wrong_none_is_enqueued() -> None:
    for kind in (tasks.echo, dtasks.echo):
        with pytest.raises(InvalidArguments, match=r"args\[0\]"):
            producer.submit(kind, [CALL, ((object(),), {})])
    assert not Job.objects.exists()


def test_which_kind_a_task_is() -> None:
    assert registry.backend_of(tasks.echo) is None
    backend = registry.backend_of(dtasks.echo)
    assert (registry.alias_of(tasks.echo), registry.alias_of(dtasks.echo)) == ("", backend.alias)
    assert registry.runs_here(None)
    assert registry.runs_here(backend)
    assert not registry.runs_here(object())
