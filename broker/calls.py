"""What commands do to single jobs on behalf of who has or wants them: progress, log lines, calls, forgetting."""

from __future__ import annotations

from ..peers import messages as m
from ..peers.errors import InvalidArgument, LeaseLost, NotFound
from ..peers.log import Entry
from ..peers.wire import unpack_payload
from . import notes, publish
from .jobs import job_queue
from .options import QUEUE
from .queues import Queue
from .sessions import OK, Answer
from .state import State


def progress(state: State, entry: Entry, command: m.Progress) -> Answer:
    """The holder tells how far a job is."""
    queue = _in_hand(state, entry, command.lease, command.offset)
    change = notes.progressed((command.progress, command.text, entry.stamp_ms))
    queue.notes.change(command.offset, command.offset + 1, change)
    more = {"progress": command.progress} | ({"text": command.text} if command.text else {})
    state.emit("job.progress", queue.name, command.offset, 1, **more)
    return OK


def log(state: State, entry: Entry, command: m.LogLines) -> Answer:
    """The holder adds lines to the log of a job."""
    queue = _in_hand(state, entry, command.lease, command.offset)
    lines = [line.decode() for line in unpack_payload(entry.payload)[0]]
    queue.notes.change(command.offset, command.offset + 1, notes.logged(lines))
    return OK


def _in_hand(state: State, entry: Entry, lease_id: int, offset: int) -> Queue:
    """The queue of a job that the session holds under this lease. Raises LeaseLost, InvalidArgument."""
    lease = state.leases.get(lease_id)
    if lease is None or lease.session != entry.session or lease.split(((offset, 1),)) is None:
        raise LeaseLost(
            f"lease {lease_id} does not hold message {offset}",
            "it has ended, or is another session's, or the message was settled or cancelled",
        )
    queue = state.by_id[lease.queue_id]
    if queue.kind != QUEUE:
        raise InvalidArgument(f"{queue.name} is a topic and has no jobs", "jobs live in queues")
    state.touched_queues.add(queue.id)
    return queue


def call(state: State, entry: Entry, command: m.Call) -> Answer:
    """An append whose answer is remembered until its job is forgotten: who waits for that may ask again very late."""
    append = m.Append(*command.append)
    job_queue(state, append.queue)
    answer = publish.append(state, entry, append)
    if entry.sequence > 0:
        state.sessions[entry.session].keep_call(entry.sequence, answer, append.queue)
    return answer


def forget_job(state: State, entry: Entry, command: m.ForgetJob) -> Answer:
    """The outcome of a job goes now, with its notes."""
    queue = job_queue(state, command.queue)
    offset = command.offset
    outcome = queue.outcomes.at(offset)
    if outcome is None:
        if not 0 <= offset < queue.next:
            raise NotFound(f"there is no job {queue.name}/{offset}", "look at the list of jobs for its number")
        if not queue.groups[""].has_ended(offset):
            raise InvalidArgument(f"job {queue.name}/{offset} has not ended", "cancel it first")
    session = state.sessions.get(entry.session)
    if session is not None:
        session.drop_call(command.queue, offset)
    if outcome is not None:  # else it was acked plainly, or is forgotten already
        state.forget_outcome(queue, outcome, offset)
    return OK
