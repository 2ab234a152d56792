"""The model: what the cluster knows, changed by one thing only, the commands out of the log, in their order.

Pure and deterministic: the same entries give the same state on every node and in every replay. Time is their stamp.
"""

from __future__ import annotations

from ..peers import messages as m
from ..peers.errors import ERRORS, PenstockError, SessionExpired
from ..peers.log import Entry
from . import (
    admin,
    calls,
    cancelling,
    completion,
    delivery,
    expiry,
    give_up,
    parents,
    publish,
    reviving,
    scheduling,
    topics,
    transfer,
)
from .extents import Reader
from .sessions import OK, Answer, refusal
from .state import State


class Model:
    """The state and the switchboard over it."""

    def __init__(self, reader: Reader) -> None:
        self.state = State(reader)

    def apply(self, entry: Entry) -> Answer:
        """Carry out one entry. A refusal is an answer too: it changed nothing but the session's sequence."""
        state = self.state
        assert entry.index == state.applied + 1, (entry.index, state.applied)
        state.applied = entry.index
        state.stamp_ms = max(state.stamp_ms, entry.stamp_ms)  # time never runs backwards; an empty entry has none
        if not entry.session:
            return self._carry_out(entry)
        session = state.sessions.get(entry.session)
        if session is None:
            return refusal(SessionExpired("the session has ended", "open a new one: say hello without a session"))
        state.touched_sessions.add(session.id)
        if entry.sequence <= 0:
            return self._carry_out(entry)
        known = session.recall(entry.sequence)
        if known is not None:
            return known
        answer = self._carry_out(entry)
        session.remember(entry.sequence, answer)
        return answer

    def _carry_out(self, entry: Entry) -> Answer:
        try:
            behind = bool(self.state.parent_ends)
            answer = self._switch(entry)
            if self.state.parent_ends and not behind:  # else TellChildren goes on, or each command would take longer
                parents.tell_children(self.state)
            return answer
        except PenstockError as fault:  # the one place where a caller's fault becomes an answer
            return refusal(fault)

    def _switch(self, entry: Entry) -> Answer:
        state, command = self.state, entry.command
        match command:
            case m.Append():
                return publish.append(state, entry, command)
            case m.Pull():
                return delivery.pull(state, entry, command)
            case m.Ack():
                return delivery.ack(state, entry, command)
            case m.Complete():
                return completion.complete(state, entry, command)
            case m.Nack():
                return delivery.nack(state, entry, command)
            case m.Reject():
                return delivery.reject(state, entry, command)
            case m.Release():
                return delivery.release(state, entry, command)
            case m.Extend():
                return delivery.extend(state, entry, command)
            case m.Expire():
                return delivery.expire(state, entry, command)
            case m.Count():
                return OK
            case m.Noop():
                state.emit("node.primary", node=command.node, term=entry.term)
                return OK
            case m.SetMembers():
                state.addresses |= {node: m.Address(*address) for node, *address in command.addresses}
                state.disks = dict(command.disks)
                state.emit("member.changed", voters=command.voters, learners=command.learners)
                return OK
            case m.Refuse():
                return refusal(ERRORS[command.code](command.message, command.hint))
            case m.OpenSession():
                return admin.open_session(state, entry, command)
            case m.EndSession():
                return admin.end_session(state, command)
            case m.Create():
                return admin.create(state, command)
            case m.Configure():
                return admin.configure(state, command)
            case m.Delete():
                return admin.delete(state, command)
            case m.Purge():
                return admin.purge(state, command)
            case m.Pause():
                return admin.pause(state, command)
            case m.CreateGroup():
                return topics.create_group(state, command)
            case m.DeleteGroup():
                return topics.delete_group(state, command)
            case m.SeekGroup():
                return topics.seek_group(state, command)
            case m.RetryGroup():
                return reviving.retry_group(state, command)
            case m.AddSchedule():
                return scheduling.add(state, entry, command)
            case m.RemoveSchedule():
                return scheduling.remove(state, command)
            case m.PauseSchedule():
                return scheduling.pause(state, command)
            case m.FireSchedule():
                return scheduling.fire(state, entry, command)
            case m.RunSchedule():
                return scheduling.run(state, entry, command)
            case m.Trim():
                return topics.trim(state, command)
            case m.Sweep():
                return admin.sweep(state, command)
            case m.TellChildren():
                parents.tell_children(state)
                return OK
            case m.Forget():
                queue = state.queue(command.queue)
                state.forget(queue, command.home)
                return OK
            case m.Outdate():
                if (outdated := state.by_id.get(command.queue_id)) is not None and not outdated.deleted:
                    expiry.outdate(state, outdated)
                return OK
            case m.ForgetIds():
                if (forgetful := state.by_id.get(command.queue_id)) is not None and not forgetful.deleted:
                    publish.forget_ids(state, forgetful, command)
                return OK
            case m.Cancel():
                return cancelling.cancel(state, entry, command)
            case m.Retry():
                return transfer.retry(state, command)
            case m.RetryDead():
                return transfer.retry_dead(state, command)
            case m.Move():
                return transfer.move(state, command)
            case m.Progress():
                return calls.progress(state, entry, command)
            case m.LogLines():
                return calls.log(state, entry, command)
            case m.Call():
                return calls.call(state, entry, command)
            case m.ForgetJob():
                return calls.forget_job(state, entry, command)
            case m.GiveUp():
                return give_up.give_up(state, command)
