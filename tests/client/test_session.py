"""The session core against a script: no sockets, no clock."""

from random import Random
from typing import Any

import pytest

from penstock.client.patience import CONNECT_MS, SILENCE_MS
from penstock.client.requests import Request
from penstock.client.session import Session, State
from penstock.peers import wire
from penstock.peers.errors import (
    Closed,
    InvalidArgument,
    NoQuorum,
    NotFound,
    PenstockError,
    ProtocolError,
    QueueFull,
    SessionExpired,
    Timeout,
    TooLarge,
    Unauthenticated,
)

A, B, C = "tcp://a:1", "tcp://b:1", "tcp://c:1"
RETRY_FOR_MS = 25_000


class Script:
    """Plays the network and the daemon to a session."""

    def __init__(self, *endpoints: str, window: int = 8, parked: int = 2, read_only: bool = False) -> None:
        self.now_ms = 1_000
        self.limits = {
            "max_message": 1000, "max_batch": 100, "window": window, "session_timeout_ms": 60_000, "parked": parked,
        }  # fmt: skip
        hello = {"version": 1, "client": "test"} | ({"read_only": True} if read_only else {})
        self.session = Session(endpoints or (A,), hello, RETRY_FOR_MS, Random(1), self.now_ms)

    def pass_time(self, ms: int) -> None:
        self.now_ms += ms
        self.session.tick(self.now_ms)

    def ask(self, op: str, *, counted: bool = False, wait_ms: int = 0, **args: Any) -> Request:
        request = Request(op, args, counted=counted, wait_ms=wait_ms)
        self.session.ask(request, self.now_ms)
        return request

    def sent(self) -> list[tuple[str, int]]:
        """What was sent since the last look: operations and sequences."""
        frames, self.session.sends = self.session.sends, []
        return [(request.op, request.sequence) for request in map(wire.parse_request, frames)]

    def answer(self, sequence: int, error: PenstockError | None = None, **body: Any) -> None:
        frames = wire.reply(sequence, "ok", body) if error is None else wire.refusal(sequence, error)
        self.session.heard(frames, self.now_ms)

    def link_up(self) -> None:
        """Wait for the next try and let it succeed; the hello is out then."""
        while self.session.state is State.IDLE:
            self.pass_time(max(1, self.session.next_ms(self.now_ms) - self.now_ms))
        self.session.connected(self.now_ms)

    def greet(self, session: str | None = "s1", last: int = 0) -> None:
        self.answer(0, session=session, last=last, limits=self.limits)

    def ready(self, session: str = "s1") -> None:
        self.link_up()
        self.sent()
        self.greet(session)

    def lose(self) -> None:
        self.session.disconnected(self.now_ms, "the cable was cut")


@pytest.fixture
def script() -> Script:
    script = Script()
    script.ready()
    return script


# -- sequences ---------------------------------------------------------------------------------------------------------


def test_the_first_request_of_a_connection_is_hello() -> None:
    script = Script()
    script.ask("list")
    script.link_up()
    assert script.sent() == [("hello", 0)]


def test_requests_wait_for_the_answer_to_hello() -> None:
    script = Script()
    script.ask("append", counted=True)
    script.link_up()
    script.sent()
    script.greet()
    assert script.sent() == [("append", 1)]


def test_counted_requests_count_up_and_the_others_down(script: Script) -> None:
    for counted in (True, False, True, False):
        script.ask("x", counted=counted)
    assert [sequence for _, sequence in script.sent()] == [1, -1, 2, -2]


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("value", [2**64, object(), "\ud800", {"deep": {"er": 2**70}}])
def test_what_cannot_travel_is_refused_by_name_and_leaves_no_gap(ready: bool, value: Any) -> None:
    script = Script()
    if ready:
        script.ready()
    first, wrong, last = (script.ask("x", counted=True, size=size) for size in (1, value, 3))
    if not ready:
        script.ready()
    assert isinstance(wrong.error, InvalidArgument)
    assert ("er is" if isinstance(value, dict) else "size is") in wrong.error.message
    assert [request.sequence for request in (first, wrong, last)] == [1, 0, 2]
    script.answer(1)
    script.answer(2)
    assert script.session.finished == [wrong, first, last]
    assert script.session.under_way == 0


@pytest.mark.parametrize("op", ["nack", "ping"])
def test_a_request_that_would_cut_the_connection_is_refused_and_leaves_no_gap(script: Script, op: str) -> None:
    wrong = script.ask(op, counted=op == "nack", text="x" * (2**20 + 1000))
    right = script.ask("ack", counted=True)
    assert isinstance(wrong.error, TooLarge)
    assert script.sent() == [("ack", 1)]
    script.answer(1)
    assert script.session.finished == [wrong, right]
    assert script.session.under_way == 0


def test_counting_goes_on_where_the_session_is(script: Script) -> None:
    script = Script()
    script.link_up()
    script.greet(last=41)
    script.sent()
    script.ask("append", counted=True)
    assert script.sent() == [("append", 42)]


def test_no_more_counted_requests_are_under_way_than_the_window() -> None:
    script = Script(window=2)
    script.ready()
    for _ in range(4):
        script.ask("append", counted=True)
    assert script.sent() == [("append", 1), ("append", 2)]
    script.answer(1)
    assert script.sent() == [("append", 3)]


def test_reads_overtake_counted_requests_that_wait_for_room() -> None:
    script = Script(window=1)
    script.ready()
    script.ask("append", counted=True)
    script.ask("append", counted=True)
    script.ask("list")
    assert script.sent() == [("append", 1), ("list", -1)]


def test_no_more_requests_are_parked_than_the_daemon_allows() -> None:
    script = Script(parked=1)
    script.ready()
    script.ask("pull", wait_ms=1000)
    script.ask("pull", wait_ms=1000)
    script.ask("list")
    assert script.sent() == [("pull", -1), ("list", -2)]
    script.answer(-1)
    assert script.sent() == [("pull", -3)]


def test_a_parked_request_is_asked_again_to_end_its_wait(script: Script) -> None:
    request = script.ask("pull", wait_ms=1000)
    script.session.sends.clear()
    script.session.end_wait(request, script.now_ms)
    (frames,) = script.session.sends
    again = wire.parse_request(frames)
    assert (again.op, again.sequence, again.args["wait_ms"]) == ("pull", -1, 0)


def test_an_answer_ends_its_request(script: Script) -> None:
    request = script.ask("describe")
    script.answer(-1, name="q")
    assert (request.done, request.body, script.session.finished) == (True, {"name": "q"}, [request])


def test_a_refusal_is_an_error_of_its_request(script: Script) -> None:
    request = script.ask("append", counted=True)
    script.answer(1, QueueFull("full"))
    assert isinstance(request.error, QueueFull)


def test_an_answer_that_comes_twice_is_heard_once(script: Script) -> None:
    request = script.ask("describe")
    script.answer(-1, name="q")
    script.answer(-1, name="other")
    assert (request.body, len(script.session.finished)) == ({"name": "q"}, 1)


# -- lost connections --------------------------------------------------------------------------------------------------


def test_after_a_reconnect_all_unanswered_requests_are_sent_again_in_order(script: Script) -> None:
    script.ask("append", counted=True)
    script.ask("pull", wait_ms=1000)
    script.ask("ack", counted=True)
    before = script.sent()
    script.lose()
    script.ready()
    assert script.sent() == before


def test_what_was_answered_is_not_sent_again(script: Script) -> None:
    script.ask("append", counted=True)
    script.ask("append", counted=True)
    script.answer(1)
    script.sent()
    script.lose()
    script.ready()
    assert script.sent() == [("append", 2)]


def test_the_hello_after_a_loss_names_the_session(script: Script) -> None:
    script.lose()
    script.link_up()
    (frames,) = script.session.sends
    assert wire.parse_request(frames).args["session"] == "s1"


def test_a_loss_asks_for_a_new_connection_to_the_same_node_at_once(script: Script) -> None:
    link = script.session.link
    script.lose()
    assert script.session.link > link
    assert (script.session.state, script.session.endpoint) == (State.CONNECTING, A)


def test_the_nodes_are_tried_in_turn() -> None:
    script = Script(A, B, C)
    tried = []
    for _ in range(4):
        while script.session.state is State.IDLE:
            script.pass_time(10)
        tried.append(script.session.endpoint)
        script.lose()
    assert tried == [A, B, C, A]


def test_the_pauses_between_tries_rise_up_to_a_second() -> None:
    script = Script()
    pauses = []
    for _ in range(100):
        before = script.now_ms
        while script.session.state is State.IDLE:
            script.pass_time(1)
        pauses.append(script.now_ms - before)
        script.lose()
    assert max(pauses[:5]) <= 40 < min(pauses[40:]) <= max(pauses) <= 1000
    assert 500 <= pauses[-1] <= 1000


def test_a_connection_that_does_not_come_about_in_time_is_given_up() -> None:
    script = Script(A, B)
    script.pass_time(0)
    script.pass_time(CONNECT_MS)
    assert script.session.endpoint == B


def test_a_request_without_a_daemon_fails_after_retry_for() -> None:
    script = Script()
    request = script.ask("list")
    for _ in range(RETRY_FOR_MS // 1000):
        assert not request.done
        script.pass_time(1000)
    assert isinstance(request.error, Timeout)


def test_patience_begins_anew_for_each_request() -> None:
    script = Script()
    script.pass_time(RETRY_FOR_MS)
    request = script.ask("list")
    script.pass_time(RETRY_FOR_MS - 1)
    assert not request.done


def test_a_counted_request_that_was_given_up_is_replaced_by_a_ping(script: Script) -> None:
    script.ask("append", counted=True)
    script.sent()
    script.lose()
    while not script.session.finished:
        script.pass_time(500)
        script.lose()
    script.ask("append", counted=True)
    script.ready()
    assert script.sent() == [("ping", 1), ("append", 2)]


def test_the_ping_in_the_place_of_one_that_was_given_up_is_asked_again_until_it_was_taken(script: Script) -> None:
    """Else its sequence would be left out, and everything after it refused as a gap."""
    append = Request("append", {}, counted=True, deadline_ms=script.now_ms + 10)
    script.session.ask(append, script.now_ms)
    script.pass_time(10)
    assert isinstance(append.error, Timeout)
    script.answer(1, NoQuorum("alone"))
    script.ready()
    assert script.sent()[-1] == ("ping", 1)


def test_the_late_answer_to_a_request_that_was_given_up_is_ignored(script: Script) -> None:
    request = Request("append", {}, counted=True, deadline_ms=script.now_ms + 10)
    script.session.ask(request, script.now_ms)
    script.pass_time(10)
    script.answer(1, offset=3)
    assert isinstance(request.error, Timeout)
    assert script.session.finished == [request]
    assert script.session.under_way == 0


def test_a_request_that_never_left_is_given_up_without_a_trace() -> None:
    script = Script()
    request = Request("append", {}, counted=True, deadline_ms=script.now_ms + 10)
    script.session.ask(request, script.now_ms)
    script.pass_time(10)
    assert isinstance(request.error, Timeout)
    script.ready()
    assert script.sent() == []


# -- silence -----------------------------------------------------------------------------------------------------------


def test_an_idle_session_pings_a_third_of_its_time_out(script: Script) -> None:
    script.pass_time(20_000)
    assert [op for op, _ in script.sent()] == ["ping"]


def test_a_daemon_that_owes_an_answer_is_asked_if_it_is_there(script: Script) -> None:
    script.ask("list")
    script.sent()
    script.pass_time(SILENCE_MS + 1)
    assert [op for op, _ in script.sent()] == ["ping"]


def test_a_daemon_that_stays_silent_is_taken_for_lost(script: Script) -> None:
    script.ask("list")
    script.pass_time(SILENCE_MS + 1)
    script.pass_time(SILENCE_MS + 1)
    assert script.session.state is State.CONNECTING


def test_a_parked_request_may_be_silent_for_its_wait(script: Script) -> None:
    script.ask("pull", wait_ms=20_000)
    script.sent()
    script.pass_time(19_000)
    assert script.sent() == []


def test_a_request_whose_reply_was_dropped_is_asked_again(script: Script) -> None:
    script.ask("append", counted=True)
    for _ in range(4):
        script.pass_time(SILENCE_MS)
        pings = [sequence for op, sequence in script.sent() if op == "ping"]
        for sequence in pings:
            script.answer(sequence)
    script.ready()
    assert script.sent() == [("append", 1)]


# -- sessions that ended -----------------------------------------------------------------------------------------------


def test_an_expired_session_is_followed_by_a_new_one(script: Script) -> None:
    script.lose()
    script.link_up()
    script.sent()
    script.answer(0, SessionExpired("gone"))
    (frames,) = script.session.sends
    assert "session" not in wire.parse_request(frames).args
    script.greet("s2")
    assert (script.session.id, script.session.epoch) == ("s2", 2)


def test_what_was_under_way_when_the_session_ended_fails_if_it_is_counted(script: Script) -> None:
    append, read = script.ask("append", counted=True), script.ask("list")
    script.lose()
    script.link_up()
    script.answer(0, SessionExpired("gone"))
    assert isinstance(append.error, SessionExpired)
    assert not read.done


def test_reads_are_asked_again_in_the_new_session_under_new_sequences(script: Script) -> None:
    script.ask("pull", wait_ms=1000)
    script.lose()
    script.link_up()
    script.answer(0, SessionExpired("gone"))
    script.sent()
    script.greet("s2")
    assert script.sent() == [("pull", -2)]


def test_what_was_refused_since_the_session_had_ended_is_asked_in_the_new_one(script: Script) -> None:
    first, second = script.ask("append", counted=True), script.ask("append", counted=True)
    script.answer(1, SessionExpired("gone"))
    assert not first.done
    assert not second.done
    script.ready("s2")
    assert script.sent() == [("append", 1), ("append", 2)]


def test_a_connection_that_has_to_say_hello_first_has_lost_its_session(script: Script) -> None:
    append = script.ask("append", counted=True)
    script.answer(1, ProtocolError("'append' before hello", "say hello first"))
    assert not append.done
    script.ready("s2")
    assert script.sent() == [("append", 1)]


def test_what_was_sent_before_the_refused_one_may_have_been_done(script: Script) -> None:
    first, second = script.ask("append", counted=True), script.ask("append", counted=True)
    script.answer(2, SessionExpired("gone"))
    assert isinstance(first.error, SessionExpired)
    assert not second.done


def test_acks_do_not_outlive_the_session_of_their_lease(script: Script) -> None:
    ack = script.ask("ack", counted=True)
    script.answer(1, SessionExpired("gone"))
    assert isinstance(ack.error, SessionExpired)


# -- other nodes -------------------------------------------------------------------------------------------------------


def test_the_client_follows_the_primary() -> None:
    script = Script(A, B)
    script.ready()
    append = script.ask("append", counted=True)
    script.sent()
    script.session.heard(wire.reply(1, "NotPrimary", {"message": "not me", "endpoint": C}), script.now_ms)
    assert script.session.endpoint == C
    script.ready()
    assert script.sent() == [("append", 1)]
    assert not append.done


def test_without_a_quorum_a_request_is_asked_again_until_retry_for_is_over(script: Script) -> None:
    append = script.ask("append", counted=True)
    began_ms = script.now_ms
    while not append.done:
        script.answer(1, NoQuorum("alone"))
        script.ready()
    assert isinstance(append.error, NoQuorum)
    assert RETRY_FOR_MS <= script.now_ms - began_ms <= RETRY_FOR_MS + 2000


def test_a_daemon_that_stops_is_looked_for_again(script: Script) -> None:
    append = script.ask("append", counted=True)
    script.answer(1, Closed("stopping"))
    script.ready()
    assert not append.done
    assert script.sent()[-1] == ("append", 1)


def test_two_replicas_that_point_at_each_other_are_not_asked_without_pause() -> None:
    script = Script(A, B)
    script.ask("append", counted=True)
    began_ms = script.now_ms
    for turn in range(120):
        script.link_up()
        other = (A, B)[turn % 2]
        script.session.heard(wire.reply(0, "NotPrimary", {"message": "not me", "endpoint": other}), script.now_ms)
    assert script.now_ms - began_ms > 5_000


def test_after_a_loss_the_other_nodes_are_asked_first_and_without_a_pause() -> None:
    script = Script(A, B, C)
    script.ready()
    script.lose()
    asked = []
    for _ in range(3):
        asked.append(script.session.endpoint)
        script.lose()
    assert asked == [B, C, A]


def test_a_round_in_vain_is_followed_by_a_short_pause() -> None:
    script = Script(A, B, C)
    script.ready()
    for _ in range(4):
        script.lose()
    assert script.session.state is State.IDLE
    assert 20 <= script.session.next_ms(script.now_ms) - script.now_ms <= 40


def test_a_node_that_names_one_already_asked_in_this_round_is_not_followed() -> None:
    script = Script(A, B, C)
    script.ready()
    script.lose()
    assert script.session.endpoint == B
    script.session.connected(script.now_ms)
    script.session.heard(wire.reply(0, "NotPrimary", {"message": "no", "endpoint": A}), script.now_ms)
    assert script.session.endpoint == A
    script.lose()
    assert script.session.endpoint == C
    script.session.connected(script.now_ms)
    script.session.heard(wire.reply(0, "NotPrimary", {"message": "no", "endpoint": A}), script.now_ms)
    assert script.session.state is State.IDLE


def test_a_node_of_several_that_stays_silent_is_left_within_two_seconds_and_shunned() -> None:
    script = Script(A, B, C)
    script.ready()
    script.ask("pull", wait_ms=20_000)
    began_ms = script.now_ms
    while script.session.endpoint == A:
        script.pass_time(max(1, script.session.next_ms(script.now_ms) - script.now_ms))
    assert script.now_ms - began_ms <= 2_000
    assert script.session.endpoint == B
    script.lose()
    assert script.session.endpoint == C
    script.lose()
    assert script.session.state is State.IDLE


def test_silence_after_silence_makes_the_session_more_patient() -> None:
    script = Script(A, B)
    waits_ms = []
    for _ in range(3):
        script.ready()
        script.ask("list")
        began_ms = script.now_ms
        while script.session.state is State.READY:
            script.pass_time(50)
        waits_ms.append(script.now_ms - began_ms)
    assert waits_ms[0] < waits_ms[1] < waits_ms[2]


def test_where_nodes_answer_and_none_is_primary_it_is_said() -> None:
    script = Script(A, B)
    append = script.ask("append", counted=True)
    while not append.done:
        if script.session.endpoint == B:
            script.session.connected(script.now_ms)
            script.session.heard(wire.reply(0, "NoQuorum", {"message": "alone"}), script.now_ms)
        elif script.session.state is State.CONNECTING:
            script.lose()
        script.pass_time(50)
    assert isinstance(append.error, NoQuorum)


def test_what_must_not_be_asked_of_another_node_fails_with_the_connection() -> None:
    script = Script(A, B)
    script.ready()
    crash = Request("crash", {}, single=True)
    script.session.ask(crash, script.now_ms)
    script.sent()
    script.lose()
    assert isinstance(crash.error, Closed)
    script.ready()
    assert script.sent() == []


# -- reading only ------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader() -> Script:
    script = Script(A, B, read_only=True)
    script.link_up()
    script.sent()
    script.greet(None)
    return script


def test_a_reader_needs_no_session(reader: Script) -> None:
    reader.ask("describe")
    assert reader.sent() == [("describe", -1)]


def test_a_reader_that_reconnects_opens_no_session_either(reader: Script) -> None:
    reader.lose()
    reader.link_up()
    (frames,) = reader.session.sends
    assert wire.parse_request(frames).args == {"version": 1, "client": "test", "read_only": True}


def test_a_reader_changes_nothing(reader: Script) -> None:
    assert isinstance(reader.ask("append", counted=True).error, InvalidArgument)
    assert reader.sent() == []


# -- refusals of the hello ---------------------------------------------------------------------------------------------


def test_a_wrong_password_is_told_at_once() -> None:
    script = Script()
    request = script.ask("ping")
    script.link_up()
    script.answer(0, Unauthenticated("wrong password"))
    assert isinstance(request.error, Unauthenticated)


def test_an_answer_to_hello_without_limits_is_no_answer() -> None:
    script = Script()
    script.link_up()
    with pytest.raises(ProtocolError):
        script.answer(0, session="s1", last=0)


def test_garbage_is_no_answer(script: Script) -> None:
    with pytest.raises(ProtocolError):
        script.session.heard([b"HTTP/1.1", b"400"], script.now_ms)


# -- the end -----------------------------------------------------------------------------------------------------------


def test_closing_fails_what_is_unanswered(script: Script) -> None:
    requests = [script.ask("append", counted=True), script.ask("list")]
    script.session.close(Closed("bye"))
    assert all(isinstance(request.error, Closed) for request in requests)
    assert script.session.endpoint is None


def test_a_closed_session_takes_no_requests(script: Script) -> None:
    script.session.close(Closed("bye"))
    assert isinstance(script.ask("list").error, Closed)


def test_a_request_that_fails_leaves_the_others_alone(script: Script) -> None:
    one, other = script.ask("describe"), script.ask("describe")
    script.answer(-1, NotFound("no such queue"))
    assert isinstance(one.error, NotFound)
    assert not other.done
