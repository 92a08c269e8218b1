"""What the processes of a worker say to each other: shared memory, and lines through pipes."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.worker.pipes import Channel, ChildExited, ChildStarted, as_values
from queue_app.worker.shared_state import Running, SharedState

ID = "0199a5c0-0000-7000-8000-000000000001"


def test_a_board_tells_each_child_and_slot_apart() -> None:
    shared = SharedState(3, 2)
    assert not any(shared.is_up(child) or shared.running(child) for child in range(3))
    shared.up(1, 5.0)
    shared.start(1, 0, ID, 3, 6.5, 99.0)
    shared.start(1, 1, ID[::-1], 1, 7.5, 0.0)
    assert [shared.is_up(child) for child in range(3)] == [False, True, False]
    assert shared.running(1) == [Running(0, ID, 3, 6.5, 99.0), Running(1, ID[::-1], 1, 7.5, 0.0)]
    assert shared.running(0) == shared.running(2) == []
    shared.end(1, 0)
    assert [running.slot for running in shared.running(1)] == [1]
    shared.claimed(1, 8.25, 41)
    assert (shared.last_claim(1), shared.last_claim(0)) == (8.25, 0.0)
    assert shared.running(1)  # a claim leaves the slots alone
    shared.clear(1)
    assert not shared.is_up(1) and shared.running(1) == []


def test_a_cancelled_job_is_marked_and_not_the_next_one_in_its_slot() -> None:
    shared = SharedState(2, 2)
    shared.start(1, 1, ID, 3, 6.5, 0.0)
    assert shared.cancel(1, 1, ID, 50.0) is True
    assert shared.cancel(1, 1, ID, 99.0) is False, "what was said first holds"
    assert shared.running(1) == [Running(1, ID, 3, 6.5, 0.0, 50.0)]
    assert [shared.is_cancelled(child, slot, ID) for child in (0, 1) for slot in (0, 1)] == [False] * 3 + [
        True
    ]
    shared.start(1, 1, ID[::-1], 1, 7.5, 0.0)
    assert shared.running(1) == [Running(1, ID[::-1], 1, 7.5, 0.0)]
    assert not shared.is_cancelled(1, 1, ID[::-1])
    shared.start(1, 0, ID[::-1], 1, 7.5, 0.0)  # at the same time in another slot
    assert not shared.is_cancelled(1, 0, ID[::-1])


def test_a_job_whose_module_is_imported_is_told_from_one_that_runs() -> None:
    shared = SharedState(1, 2)
    shared.importing(0, 1, ID, 3, 6.5, 66.5)
    assert shared.running(0) == [Running(1, ID, 3, 6.5, 66.5, importing=True)]
    assert shared.is_busy(0)
    shared.start(0, 1, ID, 3, 7.5, 0.0)
    assert shared.running(0) == [Running(1, ID, 3, 7.5, 0.0)]
    shared.importing(0, 1, ID, 3, 6.5, 66.5)
    shared.end(0, 1)
    assert shared.running(0) == [] and not shared.is_busy(0)


def test_a_child_that_keeps_itself_free_is_up_all_the_same() -> None:
    shared = SharedState(2, 2)
    shared.up(1, 5.0)
    assert not shared.is_exclusive(1)
    shared.set_exclusive(1, True)
    assert (shared.is_exclusive(0), shared.is_exclusive(1)) == (False, True)
    assert shared.is_up(1) and not shared.is_up(0) and shared.last_claim(1) == 5.0
    shared.set_exclusive(1, False)
    assert shared.is_up(1) and not shared.is_exclusive(1)


@pytest.mark.parametrize(
    "hard,cancel,late",
    [(0, 0, False), (9, 0, True), (0, 9, True), (11, 9, True), (11, 11, False), (9, 11, True)],
)
def test_who_is_late(hard: float, cancel: float, late: bool) -> None:
    assert Running(0, ID, 1, 1.0, hard, cancel).is_late(10.0) is late


def test_requests_are_counted_for_each_child() -> None:
    shared = SharedState(2, 1)
    pid = os.fork()
    if not pid:
        shared.recheck_counter[1] += 1
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert list(shared.recheck_counter) == [0, 1]


def test_a_board_is_shared_with_forked_children() -> None:
    shared = SharedState(1, 1)
    pid = os.fork()
    if not pid:
        shared.start(0, 0, ID, 2, 1.0, 2.0)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.running(0) == [Running(0, ID, 2, 1.0, 2.0)]


def pipe() -> tuple[Channel, Channel]:
    read, write = os.pipe()
    return Channel(read), Channel(write)


def test_messages_arrive_whole_and_in_order() -> None:
    read, write = pipe()
    death = ChildExited(
        3, "killed by SIGKILL", {ID: 5.5}, {ID: 7.25}, {ID: 8.5}, [ID], {ID: 9.5}, blameless=True
    )
    assert write.send("child_started", **as_values(ChildStarted(3, 1234, 0)))
    assert write.send("child_exited", **as_values(death))
    first, second = read.receive() or ()
    assert first == {"kind": "child_started", "serial": 3, "pid": 1234, "index": 0}
    assert second.pop("kind") == "child_exited"
    assert ChildExited(**second) == death
    write.close()
    assert read.receive() is None
    read.close()


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.integers(1, 50))
def test_messages_may_arrive_in_pieces(texts: list[str], piece: int) -> None:
    read, write = pipe()
    through, out = pipe()
    for text in texts:
        write.send("x", text=text)
    data = os.read(read.fd, 65_536)
    received = []
    for start in range(0, len(data), piece):
        os.write(out.fd, data[start : start + piece])
        received += through.receive() or []
    assert [message["text"] for message in received] == texts
    for line in (read, write, through, out):
        line.close()


def test_nobody_listens_any_more() -> None:
    read, write = pipe()
    read.close()
    assert write.send("child_exited", serial=1) is False
    write.close()
