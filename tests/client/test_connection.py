"""The shell: threads, wakes, losses, forks; mostly against a daemon that says what it is told to say."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

import penstock
from penstock.client.connection import Connection
from penstock.client.requests import Request

from .conftest import FakeDaemon

LIMIT_S = 10.0


@pytest.fixture
def connection(fake: FakeDaemon) -> Iterator[Connection]:
    connection = Connection([fake.endpoint], {"version": 1, "client": "test"}, retry_for_ms=10_000)
    yield connection
    connection.close()


def until(condition: object, limit_s: float = LIMIT_S) -> None:
    """Wait for a condition of another thread."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


def test_a_call_brings_its_answer(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: ("ok", {"op": request.op}, b"data")
    request = connection.call("describe", {"name": "q"})
    assert (request.body, request.data) == ({"op": "describe"}, b"data")


def test_a_refusal_is_raised(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: ("NotFound", {"message": "no such queue"}, None)
    with pytest.raises(penstock.NotFound, match="no such queue"):
        connection.call("describe", {"name": "q"})


def test_answers_come_although_nobody_waits(fake: FakeDaemon, connection: Connection) -> None:
    request = Request("ack", {}, counted=True)
    with connection.lock:
        connection.ask(request)
    until(lambda: request.done)


def test_answers_come_also_when_the_background_thread_has_learned_to_look_seldom(
    fake: FakeDaemon, connection: Connection
) -> None:
    for _ in range(3):
        enough = time.monotonic() + 0.06
        while time.monotonic() < enough:
            connection.call("describe", {})
        request = Request("ack", {}, counted=True)
        with connection.lock:
            connection.ask(request)
        until(lambda request=request: request.done)  # type: ignore[misc]


def test_what_is_asked_while_another_thread_polls_is_heard_by_that_one(
    fake: FakeDaemon, connection: Connection
) -> None:
    fake.handle = lambda request: None if request.op == "pull" else ("ok", {}, None)
    heard, never = [], Request("pull", {}, wait_ms=60_000)

    def lead() -> None:
        with connection.lock:
            connection.ask(never)
            connection.wait(lambda: len(heard) == 20, LIMIT_S)

    thread = threading.Thread(target=lead)
    thread.start()
    until(lambda: any(request.op == "pull" for request in fake.heard))
    for _ in range(20):
        with connection.lock:
            connection.ask(Request("ack", {}, counted=True, then=heard.append))
    thread.join(LIMIT_S)
    assert len(heard) == 20


def test_many_threads_share_a_connection(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: ("ok", dict(request.args), None)
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(50):
            body = connection.call("describe", {"who": [number, turn]}).body
            if list(body["who"]) != [number, turn]:
                wrong.append(body)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    assert wrong == []


def test_a_thread_that_waits_long_does_not_hold_up_the_others(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: None if request.op == "pull" else ("ok", {}, None)
    parked = Request("pull", {}, wait_ms=60_000)

    def park() -> None:
        with connection.lock:
            connection.ask(parked)
            connection.wait(lambda: parked.done, None)

    thread = threading.Thread(target=park, daemon=True)
    thread.start()
    until(lambda: any(request.op == "pull" for request in fake.heard))
    for _ in range(20):
        connection.call("describe", {})
    assert not parked.done
    connection.close()
    thread.join(LIMIT_S)
    assert isinstance(parked.error, penstock.Closed)


def test_a_wait_ends_when_its_time_is_over(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: None
    request = Request("describe", {})
    with connection.lock:
        connection.ask(request)
        assert not connection.wait(lambda: request.done, 0.02)


def test_a_signal_handler_may_use_the_client_that_waits(fake: FakeDaemon, connection: Connection) -> None:
    fake.handle = lambda request: None if request.op == "pull" else ("ok", {}, None)
    parked, seen = Request("pull", {}, wait_ms=60_000), []

    def handler(number: int, frame: object) -> None:
        seen.append(connection.call("describe", {}).done)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with connection.lock:
            connection.ask(parked)
            connection.wait(lambda: bool(seen), LIMIT_S)
    finally:
        signal.signal(signal.SIGUSR1, before)
        timer.join()
    assert seen == [True]


def test_a_garbled_answer_makes_a_new_connection(fake: FakeDaemon, connection: Connection) -> None:
    answers = iter([("ok", ["no", "map"], None), ("ok", {"fine": True}, None)])
    fake.handle = lambda request: next(answers, ("ok", {}, None))  # type: ignore[return-value]
    assert connection.call("describe", {}).body == {"fine": True}
    assert fake.greetings == 2


def test_an_unanswered_publish_is_asked_again_with_the_same_sequence(fake: FakeDaemon, connection: Connection) -> None:
    answers = iter([("Closed", {"message": "stopping"}, None), ("ok", {}, None)])
    fake.handle = lambda request: next(answers, ("ok", {}, None))
    connection.call("append", {"queue": "q", "count": 1}, b"payload", counted=True)
    assert [(request.op, request.sequence, request.payload) for request in fake.heard] == [
        ("append", 1, b"payload")
    ] * 2


def test_large_frames_arrive_whole(fake: FakeDaemon, connection: Connection) -> None:
    payload = os.urandom(900_000)
    connection.call("append", {}, payload, counted=True)
    assert fake.heard[0].payload == payload


def test_closing_says_bye(fake: FakeDaemon, connection: Connection) -> None:
    connection.call("ping", {})
    connection.close()
    assert fake.heard[-1].op == "bye"


def test_a_closed_connection_refuses_calls(connection: Connection) -> None:
    connection.close()
    with pytest.raises(penstock.Closed):
        connection.call("list", {})


def test_after_a_fork_the_child_is_told_to_connect_anew(fake: FakeDaemon, connection: Connection) -> None:
    connection.call("ping", {})
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            connection.call("ping", {})
        except penstock.Closed as closed:
            os.write(writer, str(closed).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert b"after the fork" in pipe.read()
    connection.call("ping", {})  # the parent's goes on


def test_nobody_listening_is_told_after_retry_for() -> None:
    with pytest.raises(penstock.Timeout, match=r"no daemon at ipc:///nowhere/at/all within 0\.2 s"):
        penstock.connect("ipc:///nowhere/at/all", retry_for=0.2)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:7470", [], [1], ""])
def test_what_is_no_endpoint_is_told_at_once(endpoint: object) -> None:
    with pytest.raises(penstock.InvalidArgument, match="endpoint"):
        penstock.connect(endpoint)  # type: ignore[arg-type]


def test_the_second_of_two_endpoints_is_found(fake: FakeDaemon) -> None:
    with penstock.connect(["ipc:///nowhere/at/all", fake.endpoint], retry_for=LIMIT_S):
        assert fake.greetings == 1


def test_who_names_no_endpoint_is_connected_to_that_of_the_environment(
    client: penstock.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_ENDPOINT", f"ipc:///nobody-listens-here {client.status()['primary']}")
    with penstock.connect() as other:
        assert other.status()["primary"] == client.status()["primary"]
    monkeypatch.setenv("PENSTOCK_ENDPOINT", "nonsense")
    with pytest.raises(penstock.InvalidArgument, match="endpoint is"):
        penstock.connect()
