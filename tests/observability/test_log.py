"""One record of the log is one line, whatever a task's error says: it cannot look like another record."""

from __future__ import annotations

import copy
import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from hypothesis import HealthCheck, example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from queue_app import signals
from queue_app.domain.delivery import Delivery
from queue_app.domain.outcome import Outcome
from queue_app.domain.states import AttemptState
from queue_app.observability.log_format import one_line
from tests.support.bodies import body

FORGED = "2026-11-24 12:00:00,000 ERROR   queue_app: all is lost"
HOSTILE = f"no\n{FORGED}\r\n\x1b[2Jgone\u2028{FORGED}\x85{FORGED}\x0c\ud800\u202e\x00"

hostile = st.text(
    st.characters(exclude_categories=[]) | st.sampled_from("\n\r\x1b\u2028\x85\ud800"), max_size=20
)


class Log:
    """What the logger `queue_app` writes with a formatter; a stream that takes only UTF-8, as files do."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.bytes = io.BytesIO()
        self.handler = logging.StreamHandler(io.TextIOWrapper(self.bytes, "utf-8", write_through=True))
        self.handler.setFormatter(formatter)

    def lines(self) -> list[str]:
        """The lines so far, as anything that splits lines sees them."""
        text = self.bytes.getvalue().decode()
        self.bytes.seek(0)
        self.bytes.truncate()
        assert text.endswith("\n") or not text
        return text.removesuffix("\n").splitlines()


def of_project(name: str) -> logging.Formatter:
    """A formatter of the project's settings."""
    config = {"version": 1, "formatters": copy.deepcopy(settings.LOGGING["formatters"])}
    return logging.config.DictConfigurator(config).configure_formatter(config["formatters"][name])  # type: ignore


FORMATTERS = {
    "text": lambda: of_project("text"),
    "json": lambda: of_project("json"),
    "another's": lambda: logging.Formatter("%(levelname)s %(message)s"),
}


@pytest.fixture(params=list(FORMATTERS))
def log(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    found = Log(FORMATTERS[request.param]())
    logger = logging.getLogger("queue_app")
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(found.handler, "handleError", lambda record: pytest.fail("a record was lost"))
    logger.addHandler(found.handler)
    yield found
    logger.removeHandler(found.handler)


def outcome(text: str, state: AttemptState = AttemptState.FAILED, run_at: float | None = None) -> Outcome:
    delivery = Delivery("default", "00000000-0000-7000-8000-000000000000", body(task="a.b"), 0)
    return Outcome(delivery, state, 1.0, 2.0, error_class=f"a.{text}", error=text, run_at=run_at)


def tell(text: str) -> int:
    """Send every event with this text in it; how many there are."""
    snoozed, cancelled = outcome(text, AttemptState.SNOOZED), outcome(text, AttemptState.CANCELLED)
    finished = [outcome(text), outcome(text, run_at=5.0), snoozed, cancelled]
    signals.attempts_finished.send(None, outcomes=finished, worker_id=text)
    signals.outcomes_refused.send(None, outcomes=[outcome(text)])
    signals.dead_lettered.send(None, job_id=text, task=text, reason=text, error=text)
    signals.jobs_recovered.send(None, worker_id=text, lost=[], returned=[], cause=text)
    signals.store_lost.send(None, store=text, error=text)
    signals.store_returned.send(None, store=text, downtime=1.0)
    signals.schedule_failed.send(None, schedule=text, error=text)
    signals.operated.send(None, verb=text, user=text, count=1)
    return 4 + 7


def test_each_event_is_a_line(log: Log) -> None:
    count = tell(HOSTILE)
    lines = log.lines()
    assert len(lines) == count
    assert not [line for line in lines if line.startswith(FORGED)]
    assert not [line for line in lines if re.search("[\x00-\x1f\x7f-\x9f]", line)]
    assert any(r"no\n2026" in line or r"no\\n2026" in line for line in lines), "it can still be read"


@given(hostile)
@limits(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_whatever_it_says(log: Log, text: str) -> None:
    count = tell(text)
    assert len(log.lines()) == count


@given(hostile)
@example(HOSTILE)
def test_a_line_is_printed_as_it_is_where_it_can_be(text: str) -> None:
    line = one_line(text)
    assert len(f"a{line}b".splitlines()) == 1
    line.encode()
    plain = "".join(c for c in text if c.isprintable())
    if plain == text:
        assert line == text
    assert one_line(line) == line


def test_what_is_written_in_a_language_stays() -> None:
    for text in ("C:\\new", "Größe ≥ 5 µm", "日本語", "\N{GRINNING FACE}", "a\u00a0b"):
        assert one_line(text) == text
    assert one_line("a\nb\tc\x1b\u2028\ud800") == r"a\nb\tc\x1b\u2028\ud800"


@pytest.mark.parametrize("formatter", ["text", "json"])
def test_every_record_of_the_project_and_its_traceback(formatter: str) -> None:
    """Records of others too (Django's Tasks API logs task errors with their tracebacks)."""
    log = Log(of_project(formatter))
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "no: %s", (HOSTILE,), sys.exc_info())
    record.exc_text = (
        f"as another handler\n{FORGED}"  # each handler of a record may read what the one before made
    )
    log.handler.handle(record)
    first, *rest = log.lines()
    assert FORGED in first and not first.startswith(FORGED)
    if formatter == "json":
        assert rest == [] and HOSTILE in json.loads(first)["message"]
        return
    assert any("ValueError: no" in line for line in rest)
    assert all(line.startswith("    ") for line in rest), "what goes on is indented, so it begins no record"
    assert not [line for line in rest if re.search("[\x00-\x1f\x7f-\x9f]", line)]
