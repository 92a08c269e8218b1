"""The layers of docs/internals.md: a file imports its own layer and those above it, never one below."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.architecture.imports import Import, all_imports, imports_of, modules

#: From the top down: a file imports its own layer and those above it. The longest name that fits a module counts.
ORDER = (
    "exceptions",
    "clock",
    "signals",
    "domain.masking",  # the settings use these two
    "domain.setting_values",
    "conf",
    "domain",
    "models",
    "dispatch",
    "lifecycle",
    "tasks",
    "tasks_api",
    "backend",
    "scheduling",
    "maintenance",
    "queries",
    "operations",
    "worker",
    "observability",
    "health",
    "checks",
    "admin",
    "api",
    "management",
    "apps",
)

#: Beyond the order: who may not know whom although the order would allow it.
STRANGERS = {
    ("dispatch", "models"): "the dispatch speaks ids, bytes and numbers, never models",
}

#: What faces may use beside themselves: words, declarations, models, and the two doors `queries` and `operations`.
FACES = re.compile(r"queue_app\.(api|admin|management|templatetags|health)(\..+)?")
FACES_MAY_USE = re.compile(
    r"queue_app(\.(exceptions|conf|clock|tasks(\.registry)?|(domain|models|queries|operations)(\..+)?))?"
)
#: Commands that are no faces, but begin or look after processes.
STARTERS = {
    f"queue_app.management.{name}"
    for name in ("starting", "commands.runworker", "commands.runmaintenance", "commands.checkworker")
}

#: What the dashboard may read, and the one door through which it writes.
DASHBOARD_MAY_USE = re.compile(
    r"queue_app(\.(exceptions|conf|clock|health|(domain|models|queries|operations)(\..+)?))?"
)


def layer_of(module: str) -> str | None:
    """The layer of a module of queue_app; None for the package itself, whose names are looked up late.

    Raises:
        LookupError: it has none.
    """
    inner = module.partition(".")[2]
    if not inner or inner == "migrations" or inner.startswith("migrations."):
        return None
    parts = inner.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in ORDER:
            return name
    raise LookupError(f"give {module} its place in ORDER ({__name__})")


def violation(found: Import) -> str | None:
    """What is wrong with an import within queue_app, or None."""
    source, target = layer_of(found.source), layer_of(found.target)
    if source is None:
        return f"{found} at import" if found.top and found.source == "queue_app" else None
    if target is None:
        return None
    if ORDER.index(target) > ORDER.index(source):
        return f"{found}: {source} may not know {target}"
    if (source, target) in STRANGERS:
        return f"{found}: {STRANGERS[source, target]}"
    return None


def test_every_module_has_its_layer() -> None:
    for module in modules("queue_app"):
        layer_of(module)


def test_no_file_imports_a_lower_layer() -> None:
    wrong = [said for found in all_imports("queue_app") if (said := violation(found))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source,text,wrong",
    [
        ("queue_app.domain.retry", "from queue_app.models import Job", True),
        ("queue_app.domain.retry", "def f():\n    from queue_app.lifecycle import settle", True),
        ("queue_app.dispatch.queues", "import queue_app.models", True),
        ("queue_app.dispatch.queues", "from ..models import job", True),
        ("queue_app.models.job", "from queue_app.dispatch import queues", True),
        ("queue_app.lifecycle.claim", "import_string('queue_app.worker.child.child.Child')", True),
        ("queue_app.tasks.context", "_QUEUES = 'queue_app.queries.queues'", True),
        ("queue_app.lifecycle.claim", "def f():\n    from queue_app.tasks import producer", True),
        ("queue_app.lifecycle.enqueue", "from queue_app.tasks import registry", True),
        ("queue_app.tasks.producer", "from queue_app.tasks import registry", False),
        ("queue_app.lifecycle.claim", "from queue_app.dispatch import queues", False),
        ("queue_app.tasks.context", "if TYPE_CHECKING:\n    from queue_app.models import Job", False),
        ("queue_app.worker.keeper.keeper", "logger = getLogger('queue_app')", False),
    ],
)
def test_the_check_itself(source: str, text: str, wrong: bool) -> None:
    found = imports_of(source, text, set(modules("queue_app")))
    assert any(violation(one) for one in found) is wrong


def past_the_doors(found: Import) -> bool:
    """Whether a face uses what it should reach through `queries` or `operations`."""
    return (
        FACES.fullmatch(found.source) is not None
        and found.source not in STARTERS
        and not FACES.fullmatch(found.target)
        and not FACES_MAY_USE.fullmatch(found.target)
    )


def test_faces_read_and_write_through_two_doors_alone() -> None:
    imports = all_imports("queue_app")
    assert not [str(one) for one in imports if past_the_doors(one)]
    of_faces = [one for one in imports if FACES.fullmatch(one.source)]
    for door in ("queries", "operations"):
        assert any(one.target.startswith(f"queue_app.{door}.") for one in of_faces)
    assert {one.source for one in of_faces} >= STARTERS, "each is there"


@pytest.mark.parametrize(
    "source,target,wrong",
    [
        ("api.jobs", "lifecycle.operate", True),
        ("admin.duties", "maintenance.history", True),
        ("health", "dispatch.connection", True),
        ("management.commands.replaydead", "worker.supervisor", True),
        ("management.commands.runworker", "worker.supervisor", False),
        ("admin.jobs", "tasks.handle", True),
        ("admin.jobs", "models.sql", False),
        ("admin.jobs", "queries.jobs", False),
        ("api.base", "api.errors", False),
    ],
)
def test_the_check_of_faces_itself(source: str, target: str, wrong: bool) -> None:
    assert past_the_doors(Import(f"queue_app.{source}", f"queue_app.{target}", 1, True)) is wrong


def test_the_demo_changes_things_through_operations_alone() -> None:
    below = re.compile(r"queue_app\.lifecycle\.(operate|cancel|enqueue|settle)")
    imports = all_imports("queue_app", "jobqueue_project")
    of_demo = [one for one in imports if one.source.startswith("jobqueue_project.demo.")]
    assert any(one.target.startswith("queue_app.operations.") for one in of_demo)
    assert not [str(one) for one in of_demo if below.fullmatch(one.target)]


def test_no_module_imports_itself_in_a_circle() -> None:
    # Imports inside functions count: a circle that is hidden there is one all the same.
    graph: dict[str, set[str]] = {}
    for found in all_imports("queue_app", "dashboard"):
        if found.source != "queue_app":
            graph.setdefault(found.source, set()).add(found.target)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail("these import each other in a circle: " + " → ".join(error.args[1]))


def test_the_app_knows_neither_the_dashboard_nor_the_project() -> None:
    others = {"dashboard", "jobqueue_project", "tests", "bench"}
    found = [
        one
        for one in all_imports("queue_app", "dashboard", "jobqueue_project", "tests")
        if one.source.partition(".")[0] == "queue_app" and one.target.partition(".")[0] in others
    ]
    assert not found, "\n".join(map(str, found))


def test_benches_import_nothing_of_the_tests() -> None:
    """What both use is in `bench.runtime`."""
    of_benches = [one for one in all_imports("bench", "tests") if one.source.startswith("bench.")]
    assert any(one.target == "bench.runtime.servers" for one in of_benches)
    found = [str(one) for one in of_benches if one.target.partition(".")[0] == "tests"]
    assert not found, "\n".join(found)


def test_the_dashboard_reads_models_and_writes_through_operations_alone() -> None:
    found = [
        one
        for one in all_imports("queue_app", "dashboard")
        if one.source.partition(".")[0] == "dashboard"
        and one.target.partition(".")[0] == "queue_app"
        and not DASHBOARD_MAY_USE.fullmatch(one.target)
    ]
    assert not found, "\n".join(map(str, found))


def makers_of(cls: str) -> set[str]:
    """The modules that make objects of a class of this name."""
    return {
        name
        for name, path in modules("queue_app").items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == cls
    }


def test_requests_are_made_by_the_producer_alone() -> None:
    assert makers_of("Request") == {"queue_app.tasks.producer"}


def test_outcomes_are_made_in_one_file() -> None:
    assert makers_of("Outcome") == {"queue_app.domain.outcome"}
