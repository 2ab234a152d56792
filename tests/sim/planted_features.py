"""The bugs that are planted into what is more than consensus: each breaks a promise of a feature."""

from __future__ import annotations

from .mutant import Mutant

MUTANTS = [
    Mutant(
        "a dead letter is given on in the queue where it died",
        29,
        (
            (
                '        state.finish(queue, group, span.first, span.end, "dead")\n',
                "        _put_back(state, queue, group, span, PLAIN, 0)\n",
            ),
        ),
    ),
    Mutant(
        "a message that dies is no dead letter",
        29,
        (
            (
                "            share(state, dead_queue, extent, start, stop, note)\n        count",
                "            pass\n        count",
            ),
        ),
    ),
    Mutant(
        "a dead letter that is tried again comes back twice",
        29,
        (
            (
                "            at = share_ready(state, target, extent, first, end, _note_for(",
                "            share_ready(state, target, extent, first, end, None)\n"
                "            at = share_ready(state, target, extent, first, end, _note_for(",
            ),
        ),
    ),
    Mutant(
        "an id is free as soon as its job has ended",
        31,
        (("(state.stamp_ms < known.until_ms or not queue", "(not queue"),),
    ),
    Mutant(
        "an id is free as soon as its time is over",
        31,
        (
            (
                'state.stamp_ms < known.until_ms or not queue.groups[""].has_ended(known.offset)',
                "state.stamp_ms < known.until_ms",
            ),
        ),
    ),
    Mutant(
        "a schedule that is resumed meets its last due time again",
        10,
        (
            (
                '            schedule.paused, schedule.reason = False, ""\n',
                '            schedule.paused, schedule.reason = False, ""\n'
                "            schedule.next_ms = schedule.last.due_ms if schedule.last else schedule.next_ms\n",
            ),
        ),
    ),
    Mutant(
        "due times without a primary are passed over",
        10,
        (('        if schedule.missed == "all":\n', '        if schedule.missed == "each":\n'),),
    ),
    Mutant(
        "a new primary meets the last due times again",
        10,
        (
            (
                "if schedule is None or schedule.paused or schedule.next_ms != command.due_ms:",
                "if schedule is None or schedule.paused:",
            ),
            ("        self.calendar = calendar\n", "        self.calendar = calendar\n        self.is_new = True\n"),
            (
                "        for _ in range(FIRES_MAX):\n",
                "        for it in list(self.state.schedules.by_name.values()) if self.is_new else ():\n"
                "            if it.last is not None:\n"
                "                yield m.FireSchedule(it.name, it.last.due_ms, it.last.due_ms, it.next_ms)\n"
                "        self.is_new = False\n"
                "        for _ in range(FIRES_MAX):\n",
            ),
        ),
    ),
    Mutant(
        "a cancelled job stays under its lease",
        28,
        (("    taken += _running(state, queue, first, end)", "    # taken += _running(state, queue, first, end)"),),
    ),
    Mutant(
        "a job is let go by the first parent that ends",
        28,
        (("held._replace(left=held.left - ended)", "held._replace(left=held.left - ended and 0)"),),
    ),
    Mutant(
        "a failed parent counts as one that is done",
        28,
        (("        if failed and held.on_failure == CANCEL:\n", "        if False:\n"),),
    ),
    Mutant(
        "parents that end together count as one",
        28,
        (("ParentEnd(queue_id, child, count * times, status", "ParentEnd(queue_id, child, 1, status"),),
    ),
    Mutant(
        "a job that waited for others does not wait for its own time",
        28,
        (("    due_ms = held.due_ms if held.due_ms > state.stamp_ms else READY\n", "    due_ms = READY\n"),),
    ),
    Mutant(
        "a try that fails forgets the lines of the tries before",
        28,
        (
            (
                "(*note.failures, failure)[-FAILURES_MAX:], error=kept)",
                "(*note.failures, failure)[-FAILURES_MAX:], error=kept, lines=())",
            ),
        ),
    ),
    Mutant(
        "a lease outlives the seek of its group",
        28,
        (
            (
                "    _end_leases(state, before)\n    topic.forget_group(before.name)\n",
                "    topic.forget_group(before.name)\n",
            ),
        ),
    ),
    Mutant(
        "a group does not go back behind what is done",
        28,
        (
            (
                "    group = topic.new_group(before.name, first)\n",
                "    group = topic.new_group(before.name, max(first, before.floor))\n",
            ),
        ),
    ),
    Mutant(
        "a local read shows what is not committed",
        9,
        (('fresh = {"applied": desk.state.applied,', 'fresh = {"applied": self.raft.tail.last,'),),
    ),
    Mutant(
        "a local read shows a deposed primary's model",
        9,
        (("        self._turn_away(heard, shows=False)", "        self._turn_away(heard, shows=True)"),),
    ),
    Mutant(
        "a local read shows an old checkpoint",
        9,
        (("        self._sure = tail.commit\n", "        self._sure = 0\n"),),
    ),
    Mutant(
        "a dead letter of a group stays though it is tried again",
        29,
        (
            (
                '            tell(state, "job.queued", topic, group, Span(start, stop, letter.attempt, 0))\n'
                "        _remove(state, letter)\n",
                '            tell(state, "job.queued", topic, group, Span(start, stop, letter.attempt, 0))\n',
            ),
        ),
    ),
    Mutant(
        "the dead letters of one group come back to another",
        29,
        (
            (
                'if note.get("penstock-queue") != topic.name or note.get("penstock-group") != group:',
                'if note.get("penstock-queue") != topic.name:',
            ),
        ),
    ),
    Mutant(
        "a dead letter that comes back to its group counts its attempts anew",
        28,
        (("Spot(start, stop, letter.attempt, 0, 0, READY, NEVER)", "Spot(start, stop, 0, 0, 0, READY, NEVER)"),),
    ),
    Mutant(
        "a call is answered with what became of another one",
        31,
        (
            (
                'wanted = {"queue": queue, "offset": answer.body["offset"]}',
                'wanted = {"queue": queue, "offset": max(0, answer.body["offset"] - 1)}',
            ),
        ),
    ),
    Mutant(
        "a job is forgotten that has not ended",
        31,
        (
            (
                '        if not queue.groups[""].has_ended(offset):\n            raise InvalidArgument(f"job',
                '        if False:\n            raise InvalidArgument(f"job',
            ),
        ),
    ),
    Mutant(
        "a message that is given back has no end any more",
        29,
        (
            (
                'Spot(*span, properties.get("priority", 0), due_ms, expires_ms)',
                'Spot(*span, properties.get("priority", 0), due_ms, NEVER)',
            ),
        ),
    ),
    Mutant(
        "a message is given though its time is over",
        29,
        (
            ("                    if spot.is_over(now_ms):\n", "                    if False:\n"),
            ("            if plain is not None and plain.is_over(now_ms):\n", "            if False:\n"),
        ),
    ),
    Mutant(
        "the least urgent goes first",
        28,
        (("sorted({*self._lanes, *self._dues}, reverse=True)", "sorted({*self._lanes, *self._dues})"),),
    ),
    Mutant(
        "a message that is given back is of no priority any more",
        28,
        (
            (
                'Spot(*span, properties.get("priority", 0), due_ms, expires_ms)',
                "Spot(*span, 0, due_ms, expires_ms)",
            ),
        ),
    ),
    Mutant(
        "two messages of a key are out",
        28,
        (("        if owner == offset:\n", "        if owner <= offset:\n"),),
    ),
    Mutant(
        "a message that waits for its retry lets others of its key go before it",
        28,
        (
            (
                "            _put_back(state, queue, group, part, properties, delay_ms)\n    state.arm",
                "            _put_back(state, queue, group, part, properties, delay_ms)\n"
                "            if group.keys is not None:\n"
                "                group._unblock(group.keys, part.first, part.end)\n"
                "    state.arm",
            ),
        ),
    ),
    Mutant(
        "a message that waits for its key keeps all behind it waiting",
        28,
        (
            (
                "                    self._block(start, spot)\n                    continue\n",
                "                    self._block(start, spot)\n                    break\n",
            ),
        ),
    ),
    Mutant(
        "a full queue takes one batch more",
        25,
        (("            if held + count > options.max_messages:\n", "            if held > options.max_messages:\n"),),
    ),
    Mutant(
        "a full queue lets go of what came last",
        25,
        (
            (
                "if fresh else None) if offset is not None]\n        return min(found",
                "if fresh else None) if offset is not None]\n        return max(found",
            ),
        ),
    ),
    Mutant(
        "what is in hand takes up room in a full queue",
        25,
        (("group.open_count(queue.next) - group.leased + count", "group.open_count(queue.next) + count"),),
    ),
    Mutant(
        "a rate counts deliveries for messages",
        28,
        (("sum([piece.end - piece.start for piece in pieces]))\n    ends_ms", "1)\n    ends_ms"),),
    ),
    Mutant(
        "each pull may have as many as all together",
        28,
        (("min(room, options.max_leased - group.leased)", "min(room, options.max_leased)"),),
    ),
]
