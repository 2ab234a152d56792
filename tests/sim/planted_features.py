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
]
