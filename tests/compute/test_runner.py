"""The runner with a world of straw: what it leases, whom it suspects, and how it finds the guilty one."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.compute.frames import Fault, Frame, Kind, pack_results, unpack_jobs
from penstock.compute.notes import Notes
from penstock.compute.runner import FIRST_TAKE, IN_HAND_MAX, Runner, default_task
from penstock.compute.slots import Running
from penstock.compute.source import Terms
from penstock.compute.task import Task
from penstock.compute.words import Words
from penstock.peers.values import pack


class Source:
    """Notes what became of messages, which are numbers here."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.failed: list[int] = []
        self.rejected: list[int] = []
        self.released: list[int] = []
        self.to_cancel: list[Any] = []
        self.told: list[tuple[int, Any, list[str]]] = []

    def terms_of(self, message: SimpleNamespace) -> Terms:
        return Terms(None, None)

    def notes_of(self, messages: Sequence[Any]) -> Notes:
        return Notes([(message.number, 1, 1) for message in messages])

    def cancelled(self) -> list[Any]:
        found, self.to_cancel = self.to_cancel, []
        return found

    def tell(self, message: Any, words: Words) -> None:
        self.told.append((message.number, words.progress, words.lines))

    def complete(self, messages: Sequence[Any], results: Sequence[bytes]) -> None:
        self.done += [message.number for message in messages]

    def fail(self, messages: Sequence[Any], errors: Sequence[bytes]) -> None:
        self.failed += [message.number for message in messages]

    def reject(self, message: Any, reason: str, error: bytes) -> None:
        self.rejected.append(message.number)

    def release(self, messages: Sequence[Any]) -> None:
        self.released += [message.number for message in messages]


class Feeder:
    """Gives what it is told to give, and notes how much it may take."""

    def __init__(self) -> None:
        self.taken = 0
        self.limit = 0
        self._batches: list[Sequence[Any]] = []

    def give(self, numbers: Sequence[int]) -> None:
        self.taken += len(numbers)
        self._batches.append([SimpleNamespace(number=number, body=pack({"n": number})) for number in numbers])

    def batches(self) -> list[Sequence[Any]]:
        found, self._batches = self._batches, []
        return found

    def allow(self, limit: int, step: int = 1) -> None:
        self.limit = limit


class World:
    """Takes frames. `suspects` and `last_word` are what a test says."""

    def __init__(self, hosts: int = 1) -> None:
        self.hosts = hosts
        self.sent: list[Frame] = []
        self.running: list[Running] = []
        self.cancels: Any = SimpleNamespace(add=lambda *job: self.flags.append(job), clear=lambda: self.flags.clear())
        self.flags: list[tuple[int, int]] = []

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def suspects(self) -> list[Running]:
        return self.running

    def last_word(self) -> None:
        return None

    def numbers(self, batch: int) -> list[int]:
        (frame,) = [each for each in self.sent if each.batch == batch]
        return [body[-1] for body in unpack_jobs(frame.payload)[1]]


def results(batch: int, first: int, size: int, seconds: float = 0.01, faults: Sequence[Fault] = ()) -> Frame:
    failed = {fault.place for fault in faults}
    packed = [None if place in failed else b"\x01" for place in range(first, first + size)]
    return Frame(Kind.RESULTS, 1, batch, first, size, 0, seconds, pack_results(packed, list(faults)))


@pytest.fixture
def stage() -> SimpleNamespace:
    """A runner with its surroundings, and ten jobs that are with the world."""
    source, feeder, world = Source(), Feeder(), World()
    task = Task(lambda n: n, queue="q", name="t")
    runner = Runner(source, feeder, {"t": task}, ranks=2)  # type: ignore[arg-type]
    runner.attach(world)  # type: ignore[arg-type]
    feeder.give(range(10))
    runner.hear_feeder()
    runner.pump()
    return SimpleNamespace(source=source, feeder=feeder, world=world, runner=runner)


def test_little_is_leased_before_the_pace_is_known_and_much_of_short_jobs_after(stage: SimpleNamespace) -> None:
    assert stage.feeder.limit == 2 * FIRST_TAKE
    stage.runner.hear(results(1, 0, 10, seconds=1e-5))
    stage.runner.pump()
    assert stage.feeder.limit == 10 + IN_HAND_MAX


def test_long_jobs_are_not_hoarded(stage: SimpleNamespace) -> None:
    stage.runner.hear(results(1, 0, 10, seconds=1000.0))
    stage.runner.pump()
    assert stage.feeder.limit == 10 + 2


def test_large_jobs_are_not_hoarded_either(stage: SimpleNamespace) -> None:
    stage.feeder.give([10])
    stage.feeder._batches[0][0].body = bytes(16 << 20)
    stage.runner.hear_feeder()
    stage.runner.hear(results(1, 0, 10, seconds=1e-5))
    stage.runner.pump()
    assert stage.feeder.limit == 10 + 4


def test_results_and_faults_go_their_ways(stage: SimpleNamespace) -> None:
    error = pack({"type": "E"})
    stage.runner.hear(results(1, 2, 4, faults=[Fault(3, error), Fault(5, error, final=True)]))
    assert (stage.source.done, stage.source.failed, stage.source.rejected) == ([2, 4], [3], [5])
    assert stage.runner.running == 6


def test_what_the_slots_name_is_suspected_and_the_rest_goes_back(stage: SimpleNamespace) -> None:
    stage.runner.hear(results(1, 0, 2))
    stage.world.running = [Running(1, 1, 1, 0), Running(1, 4, 1, 0)]
    assert stage.runner.recover(stage.world)
    assert stage.source.released == [2, 3, 5, 6, 7, 8, 9]
    second = World()
    stage.runner.attach(second)
    stage.runner.pump()
    assert [second.numbers(frame.batch) for frame in second.sent] == [[4]]
    assert stage.feeder.limit == 0
    stage.runner.hear(results(second.sent[0].batch, 0, 1))
    stage.runner.pump()
    assert stage.source.done == [0, 1, 4]
    assert stage.feeder.limit > 0


def test_a_suspect_that_kills_the_world_alone_is_poison(stage: SimpleNamespace) -> None:
    stage.world.running = [Running(1, 4, 1, 0)]
    stage.runner.recover(stage.world)
    second = World()
    stage.runner.attach(second)
    stage.runner.pump()
    assert stage.runner.recover(second)
    assert stage.source.rejected == [4]
    assert stage.runner.in_hand == 0


def test_a_world_that_died_with_empty_slots_blames_nobody(stage: SimpleNamespace) -> None:
    assert not stage.runner.recover(stage.world)
    assert stage.source.released == list(range(10))


def test_across_hosts_all_are_suspects_and_halving_finds_the_one(stage: SimpleNamespace) -> None:
    world = stage.world
    world.hosts = 2
    for _ in range(10):
        if world.sent and 7 not in world.numbers(world.sent[-1].batch):
            frame = world.sent[-1]
            stage.runner.hear(results(frame.batch, 0, frame.size))
        else:
            stage.runner.recover(world)
            world = World(hosts=2)
            stage.runner.attach(world)
        stage.runner.pump()
        if stage.runner.in_hand == 0:
            break
    assert stage.source.rejected == [7]
    assert sorted(stage.source.done) == [0, 1, 2, 3, 4, 5, 6, 8, 9]
    assert stage.source.failed == stage.source.released == []


def test_a_stop_gives_back_what_no_world_has_seen(stage: SimpleNamespace) -> None:
    stage.feeder.give([10, 11])
    stage.runner.drain()
    assert stage.source.released == [10, 11]
    assert stage.world.sent[-1].kind is Kind.DROP
    stage.runner.hear(Frame(Kind.DROPPED, batch=1, first=6, size=4))
    stage.runner.give_up()
    assert stage.source.released == [10, 11, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5]


def test_jobs_without_a_task_name_go_to_the_nameless_task() -> None:
    named, nameless = Task(print, queue="q", name="a"), Task(len, queue="q")
    assert default_task({"a": named, "len": nameless}) == "len"
    assert default_task({"a": named}) == "a"
    assert default_task({"a": named, "b": named}) is None


def told(place: int, *said: Any) -> Frame:
    words = Words()
    words.add(*said)
    return Frame(Kind.TOLD, batch=1, size=1, payload=pack([[place, *words.pack()]]))


def test_words_of_a_job_in_hand_are_passed_on_and_others_are_not(stage: SimpleNamespace) -> None:
    stage.runner.hear(told(3, (0.5, "half"), ["a line"]))
    stage.runner.hear(results(1, 3, 1))
    stage.runner.hear(told(3, (1.0, "late")))
    assert stage.source.told == [(3, (0.5, "half"), ["a line"])]


@pytest.fixture
def cancelled(stage: SimpleNamespace) -> SimpleNamespace:
    """The job at place 4 is cancelled, and its grace is over at once."""
    stage.runner._cancelled.grace_s = 0.0
    (message,) = stage.runner._ledger.peek(1).messages[4:5]
    stage.source.to_cancel = [message]
    stage.runner.cancel()
    return stage


def test_a_cancelled_job_is_flagged_and_its_kill_asked_for(cancelled: SimpleNamespace) -> None:
    assert cancelled.world.flags == [(1, 4)]
    assert [(frame.batch, frame.first) for frame in cancelled.world.sent if frame.kind is Kind.KILL] == [(1, 4)]
    cancelled.runner.cancel()
    assert [frame.kind for frame in cancelled.world.sent].count(Kind.KILL) == 1
    assert cancelled.runner.wait_s() > 0


def test_what_becomes_of_a_cancelled_job_is_said_to_nobody(cancelled: SimpleNamespace) -> None:
    cancelled.runner.hear(results(1, 0, 10, faults=[Fault(3, pack({"type": "E"}))]))
    assert cancelled.source.done == [0, 1, 2, 5, 6, 7, 8, 9]
    assert cancelled.source.failed == [3]
    assert cancelled.runner.in_hand == 0
    assert cancelled.runner.counters.cancelled == 1
    assert cancelled.world.flags == []
    assert cancelled.runner.wait_s() is None


def test_a_fault_of_a_cancelled_job_is_no_failure(cancelled: SimpleNamespace) -> None:
    cancelled.runner.hear(results(1, 4, 1, faults=[Fault(4, pack({"type": "JobCancelled"}))]))
    assert (cancelled.source.failed, cancelled.source.rejected, cancelled.runner.counters.failed) == ([], [], 0)


def test_a_world_that_dies_takes_nothing_back_of_a_cancelled_job(cancelled: SimpleNamespace) -> None:
    cancelled.runner.recover(cancelled.world)
    assert cancelled.source.released == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert cancelled.runner.in_hand == 0


def test_between_two_worlds_no_grace_is_waited_for(cancelled: SimpleNamespace) -> None:
    cancelled.runner.recover(cancelled.world)
    cancelled.source.to_cancel = [SimpleNamespace(number=99)]
    cancelled.runner.cancel()
    assert cancelled.runner.wait_s() is None
    cancelled.runner.attach(World())
    cancelled.runner.cancel()
    assert cancelled.runner.wait_s() is None  # nobody has it: it is forgotten


def test_a_cancelled_suspect_is_not_tried_alone(cancelled: SimpleNamespace) -> None:
    cancelled.world.running = [Running(1, 4, 1, 0), Running(1, 5, 1, 0)]
    cancelled.runner.recover(cancelled.world)
    second = World()
    cancelled.runner.attach(second)
    cancelled.runner.pump()
    assert [second.numbers(frame.batch) for frame in second.sent] == [[5]]


def test_a_job_that_is_cancelled_before_a_world_has_it_is_never_sent(stage: SimpleNamespace) -> None:
    stage.feeder.give([10, 11])
    stage.source.to_cancel = [stage.feeder._batches[0][0]]
    stage.runner.cancel()
    stage.runner.hear_feeder()
    stage.runner.pump()
    assert stage.world.numbers(2) == [11]
    assert stage.runner.counters.cancelled == 1
