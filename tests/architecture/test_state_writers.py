"""`lifecycle` (with the bulk SQL beside the models) is the only writer of `Job.state`."""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.imports import modules

WRITERS = re.compile(r"queue_app\.(lifecycle|models\.sql|migrations)(\..+)?")
#: `outcome.state` is the attempt's, a value that is still to be recorded.
NOT_JOBS = {"outcome"}
_SQL = re.compile(r"\b(UPDATE|INSERT\s+INTO|COPY|DELETE\s+FROM)\s+queue_app_job\b", re.IGNORECASE)


def writes(source: str) -> list[tuple[int, str]]:
    """Where a source writes a job's state, or rows of jobs in SQL: (line, what)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [part for t in node.targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "state":
                owner = target.value.id if isinstance(target.value, ast.Name) else "?"
                if owner not in NOT_JOBS:
                    found.append((node.lineno, f"{owner}.state = …"))
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            said = {k.arg for k in node.keywords} | {
                key.value
                for k in node.keywords
                if isinstance(k.value, ast.Dict)
                for key in k.value.keys
                if isinstance(key, ast.Constant)
            }
            if name in {"update", "create", "get_or_create", "update_or_create", "Job"} and "state" in said:
                found.append((node.lineno, f"{name}(state=…)"))
            if name == "bulk_update" and "state" in {
                c.value
                for a in ast.walk(node)
                if isinstance(a, ast.List)
                for c in a.elts
                if isinstance(c, ast.Constant)
            }:
                found.append((node.lineno, "bulk_update([…, 'state'])"))
            if name == "setattr" and any(
                isinstance(a, ast.Constant) and a.value == "state" for a in node.args
            ):
                found.append((node.lineno, "setattr(…, 'state', …)"))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            found.append((node.lineno, node.value.split("\n")[0][:60]))
    return found


def test_only_the_lifecycle_writes_a_jobs_state() -> None:
    found = [
        f"{path}:{line}: {what}"
        for name, path in modules("queue_app", "dashboard", "jobqueue_project").items()
        if not WRITERS.fullmatch(name)
        for line, what in writes(path.read_text())
    ]
    assert not found, "call a verb of queue_app.lifecycle instead:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "job.state = 'failed'",
        "job.state, job.attempt = 'failed', 1",
        "Job.objects.filter(pk=1).update(state=JobState.FAILED)",
        "Job.objects.filter(pk=1).update(**{'state': 'failed'})",
        "Job.objects.bulk_update(jobs, ['state'])",
        "Job.objects.update_or_create(pk=1, defaults={'state': 'failed'})",
        "Job(task='x', state='queued').save()",
        "setattr(job, 'state', 'failed')",
        "cursor.execute('update queue_app_job set priority = 1')",
    ],
)
def test_a_writer_is_found(source: str) -> None:
    assert len(writes(source)) == 1


@pytest.mark.parametrize("source", ["state = job.state", "jobs.filter(state='queued')", "job.priority = 1"])
def test_a_reader_is_not(source: str) -> None:
    assert not writes(source)
