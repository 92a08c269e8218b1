"""What a child holds without having it goes back; what it has, and what has ended, does not."""

from __future__ import annotations

from queue_app.worker import doubt
from queue_app.worker.doubt import Doubt
from tests.integration.support import Child, drain, jobs
from tests.support.marks import committed

pytestmark = committed


class Looks:
    """A child's doubts, at moments that the test decides."""

    def __init__(self, child: Child) -> None:
        self.now = 1_000.0
        self.in_hand: set[str] = set()
        self._child = child
        self._doubt = Doubt(child.holder, ["default"], lambda: self.in_hand, lambda: self.now)

    def fail(self) -> None:
        """Redis fails in a claim."""
        self._doubt.arise()

    def look(self, after: float = doubt.LOOK) -> int:
        self.now += after
        return self._doubt.settle(self._child.client)


def test_what_is_strange_twice_goes_back_in_order() -> None:
    ids = jobs(5)
    child = Child()
    looks = Looks(child)
    known = child.claim(2)
    looks.in_hand = {delivery.id for delivery in known}
    child.claim(2)  # nobody hears the answer
    assert looks.look() == 0, "without a failure nothing is in doubt"
    looks.fail()
    assert looks.look() == 0
    assert looks.look(after=0.1) == 0, "too soon for a second look"
    assert looks.look() == 2
    assert child.held() == looks.in_hand
    assert drain() == ids[2:]


def test_a_job_between_two_hands_is_not_strange() -> None:
    jobs(1)
    child = Child()
    looks = Looks(child)
    (delivery,) = child.claim()
    looks.fail()
    assert looks.look() == 0
    looks.in_hand = {delivery.id}
    assert looks.look() == 0
    looks.in_hand = set()
    assert looks.look() == 0
    assert child.held() == {delivery.id}


def test_a_job_that_has_ended_is_let_go_of_and_does_not_come_back() -> None:
    """Its outcome was recorded, and who should have acknowledged it knows nothing of it any more."""
    from queue_app.lifecycle import settle
    from tests.integration.support import succeeded

    jobs(1)
    child = Child()
    looks = Looks(child)
    (delivery,) = child.claim()
    settle.record([succeeded(delivery)], child.worker_id)
    looks.fail()
    assert [looks.look(), looks.look()] == [0, 1]
    assert child.held() == set() and drain() == []


def test_doubt_has_an_end() -> None:
    jobs(1)
    child = Child()
    looks = Looks(child)
    child.claim()
    looks.fail()
    assert looks.look(after=doubt.LASTS + 1) == 0
    assert looks.look() == 0
    assert len(child.held()) == 1
