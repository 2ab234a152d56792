"""What commands do to queues, topics and sessions as a whole."""

from __future__ import annotations

from ..peers import messages as m
from ..peers.errors import AlreadyExists, InvalidArgument, SessionExpired
from ..peers.log import Entry
from . import parents
from .cancelling import waiting_parts
from .delivery import fail_lease
from .options import QUEUE, Options, change_options
from .retries import give_back
from .scheduling import orphan
from .sessions import OK, Answer, Session
from .state import State
from .views import queue_info


def create(state: State, command: m.Create) -> Answer:
    if command.name in state.queues:
        kind = state.queues[command.name].kind
        raise AlreadyExists(f"{kind} {command.name} exists already", "take another name, or use the one that is there")
    options = change_options(Options(), command.options, command.kind)
    _check_result_queue(command.name, options)
    return Answer("ok", queue_info(state.new_queue(command.name, command.kind, options), state.stamp_ms))


def configure(state: State, command: m.Configure) -> Answer:
    queue = state.queue(command.name)
    options = change_options(queue.options, command.options, queue.kind)
    if options.ordered_by != queue.options.ordered_by:
        raise InvalidArgument(f"ordered_by of {queue.name} cannot be changed", "it is said when a queue is created")
    _check_result_queue(queue.name, options)
    queue.options = options
    state.wake(queue)  # a limit may be higher than it was
    state.touched_queues.add(queue.id)
    state.emit(f"{queue.kind}.configured", queue.name, options=command.options)
    return Answer("ok", queue_info(queue, state.stamp_ms))


def _check_result_queue(name: str, options: Options) -> None:
    if options.result_queue == name:  # each result would be a job, whose result is a job
        raise InvalidArgument(f"result_queue is {name}, the queue itself", "give another one, or none")


def delete(state: State, command: m.Delete) -> Answer:
    queue = state.queue(command.name)
    for lease in [lease for lease in state.leases.values() if lease.queue_id == queue.id]:
        state.end_lease(lease)
    del state.queues[command.name]
    queue.deleted = True
    parents.forget_queue(state, queue)
    queue.notes.drop(0, queue.next)
    state.emit(f"{queue.kind}.deleted", queue.name)
    orphan(state, queue.name)
    state.ended[queue.name] = None
    state.wake(queue)
    state.drop(queue)
    return OK


def purge(state: State, command: m.Purge) -> Answer:
    queue = state.queue(command.name)
    if queue.kind != QUEUE:
        raise InvalidArgument(f"{queue.name} is a topic and cannot be purged", "delete it, or set its retention")
    leased = sorted(span for lease in state.leases.values() if lease.queue_id == queue.id for span in lease.spans)
    for first, end in waiting_parts(state, queue, 0, queue.next) if queue.notes.rows or queue.dependents else ():
        queue.notes.drop(first, end)
        state.parent_ends += queue.dependents.ended(first, end, "purged")  # to who waits for it, that is a failure
    queue.held.clear()
    count = queue.groups[""].take_all_waiting(queue.next, leased)
    state.ended[queue.name] = None
    state.drop(queue)
    state.emit("queue.purged", queue.name, messages=count)
    return Answer("ok", {"purged": count})


def pause(state: State, command: m.Pause) -> Answer:
    queue = state.queue(command.name)
    queue.paused = command.paused
    if not queue.paused:
        state.wake(queue)
    state.touched_queues.add(queue.id)
    state.emit(f"{queue.kind}.{'paused' if command.paused else 'resumed'}", queue.name)
    return Answer("ok", queue_info(queue, state.stamp_ms))


def sweep(state: State, command: m.Sweep) -> Answer:
    """The next stretch of what a purge or a delete left behind."""
    queue = state.by_id.get(command.queue_id)
    if queue is not None:
        state.drop(queue)
    return OK


def open_session(state: State, entry: Entry, command: m.OpenSession) -> Answer:
    """The session's id is the index of this entry, so it is never used twice."""
    session = Session(entry.index, command.secret, command.client, command.sequence)
    state.sessions[session.id] = session
    state.touched_sessions.add(session.id)
    state.emit("session.opened", session=session.id, client=session.client)
    return Answer("ok", {"session": session.token, "last": session.last})


def end_session(state: State, command: m.EndSession) -> Answer:
    """Its leases return: as failures if it fell silent, without one if it said goodbye."""
    session = state.sessions.get(command.session)
    if session is None:
        raise SessionExpired("the session has ended already", "open a new one")
    # By id, which is their age: a session that was restored from disk has them in another order than one that was not.
    for lease_id in sorted(session.leases.values()):
        lease = state.leases[lease_id]
        if command.expired:
            fail_lease(state, lease, "its consumer fell silent")
            continue
        queue, taken = state.by_id[lease.queue_id], lease.spans
        state.end_lease(lease)
        give_back(state, queue, lease.group, taken)
    del state.sessions[session.id]
    state.gone.sessions.append(session.id)
    state.emit("session.ended", session=session.id, expired=command.expired)
    return OK
