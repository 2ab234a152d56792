"""Scenarios as texts: commands, a line of dashes, and what came of them.

    ana append jobs a b c          one command on each line; each has a turn of its own
    bob pull jobs 2 lease=10s
    ----
    ana append: 0+3
    bob pull: L1 until 10s: 0 a, 1 b

Leases are named L1, L2, ... in the order in which they are seen; times are since the start. A range is FIRST+COUNT
or FIRST. `again` sends the last request of a client once more, as it was; `gap` leaves one sequence out.
"""

from __future__ import annotations

from typing import Any

from kit.world import START_MS, Client, Reply, World
from penstock.peers import wire
from penstock.peers.units import duration_ms

DASHES = "----"
LIST_COUNTS = ("ready", "delayed", "leased", "done", "dead")
NUMBERS = ("max_messages", "max_bytes", "max_failures", "retention_bytes", "retention_messages")
DURATIONS = ("retry_delay", "result_ttl", "retention")


def blocks(text: str) -> list[tuple[str, str]]:
    """(commands, what came of them); a block without dashes is a comment."""
    found = []
    for block in text.strip("\n").split("\n\n"):
        commands, dashes, said = block.partition(DASHES)
        found.append((commands.rstrip("\n"), said.strip("\n") if dashes else ""))
    return found


def written(pairs: list[tuple[str, str]]) -> str:
    """The text of a scenario."""
    parts = [commands if commands.startswith("#") else f"{commands}\n{DASHES}\n{said}" for commands, said in pairs]
    return "\n\n".join(parts) + "\n"


class Scenario:
    """A world, the clients in it, and the names of what they were given."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clients: dict[str, Client] = {}
        self.leases: dict[int, str] = {}
        self.asked: dict[tuple[str, int], str] = {}
        self.last: dict[str, list[bytes]] = {}
        self.lines: list[str] = []

    def run(self, commands: str) -> str:
        """Carry out the commands of a block; the transcript."""
        self.lines = []
        for line in commands.splitlines():
            if not line.startswith("#"):
                self._command(line.split())
                self._hear()
        return "\n".join(self.lines) or "nothing"

    def _command(self, words: list[str]) -> None:
        first, *rest = words
        if first == "advance":
            self.world.advance(duration_ms(rest[0]))
        elif first in ("restart", "crash"):
            self.world.restart(clean=first == "restart")
        elif first == "limits":
            for key, value in (word.split("=") for word in rest):
                whole = f"{key}_ms" if hasattr(self.world.limits, f"{key}_ms") else key
                setattr(self.world.limits, whole, duration_ms(value) if whole != key else int(value))
        else:
            self._client(first, rest[0], rest[1:])

    def _client(self, name: str, verb: str, words: list[str]) -> None:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        if verb == "hello":
            self.clients[name] = Client(self.world, name)
            self.lines.append(f"{name} hello: a session")
        elif verb == "resume":
            session = self.clients[name].session
            self._send(name, 0, "resume", wire.request("hello", 0, {"version": 1, "client": name, "session": session}))
        elif verb == "again":
            self.world.turn([(self.clients[name].route, self.last[name])])
        else:
            if verb == "gap":
                self.clients[name].sequence += 1
                verb, *plain = plain
            op, args, payload = self._request(verb, plain, options)
            sequence = self.clients[name].number(op)
            self._send(name, sequence, verb, wire.request(op, sequence, args, payload))

    def _send(self, name: str, sequence: int, verb: str, frames: list[bytes]) -> None:
        self.asked[name, sequence] = verb
        if verb != "resume":
            self.last[name] = frames
        self.world.turn([(self.clients[name].route, frames)])

    # -- what is said -------------------------------------------------------------------------------------------------

    def _request(
        self, verb: str, plain: list[str], options: dict[str, str]
    ) -> tuple[str, dict[str, Any], bytes | None]:
        times = {f"{key}_ms": duration_ms(options[key]) for key in ("lease", "wait", "delay") if key in options}
        if verb in ("create", "configure"):
            args: dict[str, Any] = {"name": plain[0], "options": _options(options)}
            return verb, args | ({"kind": plain[1] if plain[1:] else "queue"} if verb == "create" else {}), None
        if verb == "append":
            bodies = [body.encode() for body in plain[1:]]
            return "append", {"queue": plain[0], "count": len(bodies)}, wire.pack_payload(bodies)
        if verb == "pull":
            some = {key: options[key] for key in ("group",) if key in options}
            credit = {"messages": int(plain[1]) if plain[1:] else 1}
            size = {"bytes": int(options["bytes"])} if "bytes" in options else {}
            return "pull", {"queue": plain[0], "lease_ms": 60_000} | some | credit | size | times, None
        if verb in ("ack", "nack", "reject", "release", "complete"):
            return self._settle(verb, plain, options, times)
        if verb == "extend":
            return "extend", {"leases": [self._lease(word) for word in plain]} | times, None
        if verb in ("result", "status", "cancel", "retry", "outcomes"):
            return self._job(verb, plain, times)
        if verb == "group":
            what, topic, group, *start = plain
            return f"group_{what}", {"topic": topic, "group": group} | _start(start, options), None
        if verb == "read":
            credit = {"messages": int(options["n"])} if "n" in options else {}
            return "read", {"topic": plain[0]} | _start(plain[1:], options) | credit | times, None
        return verb, {"name": plain[0]} if plain else {}, None

    def _settle(
        self, verb: str, plain: list[str], options: dict[str, str], times: dict[str, int]
    ) -> tuple[str, dict[str, Any], bytes | None]:
        args: dict[str, Any] = {"lease": self._lease(plain[0])} | times
        ranges = [word for word in plain[1:] if word[0].isdigit()]
        if ranges:
            args["ranges"] = [[int(part) for part in (*word.split("+"), "1")[:2]] for word in ranges]
        if "error" in options:
            args["error"] = options["error"].encode()
        if "reason" in options:
            args["reason"] = options["reason"]
        results = [word.encode() for word in plain[1:] if not word[0].isdigit()]
        return verb, args, wire.pack_payload(results) if verb == "complete" else None

    def _job(self, verb: str, plain: list[str], times: dict[str, int]) -> tuple[str, dict[str, Any], bytes | None]:
        queue, *numbers = plain
        if verb == "status":
            return "job_status", {"queue": queue, "offsets": [int(number) for number in numbers]}, None
        if verb == "outcomes":
            after = int(numbers[0]) if numbers else 0
            return "outcomes", {"queue": queue, "after": self.places[after] if after else 0, "limit": 100} | times, None
        return f"job_{verb}", {"queue": queue, "offset": int(numbers[0])} | times, None

    @property
    def places(self) -> list[int]:
        """Places in the stream of outcomes, by number: 1 is behind the first step."""
        homes = {home for queue in self.world.node.desk.state.queues.values() for home, _ in queue.outcomes.after(0)}
        return [0, *sorted(homes)]

    def _lease(self, name: str) -> int:
        return next((lease for lease, known in self.leases.items() if known == name), 999_999)

    # -- what is heard ------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for name, client in self.clients.items():
            for reply in client.heard():
                verb = self.asked.get((name, reply.sequence), "?")
                if verb == "resume" and reply.status == "ok":
                    client.sequence = reply.body["last"]
                self.lines.append(f"{name} {verb}: {self._told(verb, reply)}")

    def _told(self, verb: str, reply: Reply) -> str:
        body = reply.body
        if reply.status != "ok":
            return f"{reply.status}: {self._named(body['message'])}"
        if verb == "pull":
            return self._delivery(reply)
        if verb == "append":
            return f"{body['offset']}+{body['count']}"
        if verb == "resume":
            return f"its session, {body['last']} counted so far"
        if verb in ("create", "configure", "describe", "pause", "resume"):
            return _counts(body)
        if verb == "status":
            return ", ".join(_job(job) for job in body["jobs"])
        if verb == "result":
            return " ".join([body["status"], *(data.decode() for data in reply.bodies)])
        if verb == "outcomes":
            return _outcomes(reply) or "none"
        if verb == "group" and body:
            oldest = "" if body["oldest_ms"] is None else f", the oldest of {body['oldest_ms'] / 1000:g}s"
            return f"from {body['floor']}: {_of(body)}{oldest}"
        if verb == "read":
            bodies = " ".join(body.decode() for body in reply.bodies) or "nothing"
            return f"{body['first']}..{body['next']} of {body['end']}: {bodies}"
        if verb == "peek":
            return ", ".join(
                f"{offset} {body.decode()}" for offset, body in zip(reply.offsets, reply.bodies, strict=True)
            )
        if verb == "extend":
            return "lost " + ", ".join(self.leases[lease] for lease in body["lost"]) if body["lost"] else "ok"
        told = {key: value for key, value in body.items() if key not in ("name", "floor", "retried", "cancelled")}
        return ", ".join(f"{key} {value}" for key, value in told.items()) or "ok"

    def _delivery(self, reply: Reply) -> str:
        body = reply.body
        if body["lease"] is None:
            return "nothing"
        name = self.leases.setdefault(body["lease"], f"L{len(self.leases) + 1}")
        bodies = iter(zip(reply.bodies, reply.headers or [None] * len(reply.bodies), strict=True))
        told = []
        for first, count, attempt, _, failures in body["ranges"]:
            history = f" (attempt {attempt}, failures {failures})" if (attempt, failures) != (1, 0) else ""
            for offset in range(first, first + count):
                data, header = next(bodies)
                origin = {key.removeprefix("penstock-"): value for key, value in (header or {}).items()}
                group = f" of {origin['group']}" if "group" in origin else ""
                letter = f" [{origin['queue']}/{origin['offset']}{group}: {origin['reason']}]" if origin else ""
                told.append(f"{offset} {data.decode()}{history}{letter}")
        return f"{name} until {_clock(body['ends_ms'])}: {', '.join(told)}"

    def _named(self, message: str) -> str:
        for lease, name in self.leases.items():
            message = message.replace(f"lease {lease} ", f"lease {name} ")
        return message


def _start(words: list[str], options: dict[str, str]) -> dict[str, Any]:
    """Where reading begins: earliest, latest, offset at=3, time at=10s (since the start)."""
    if not words:
        return {}
    at = {"time": lambda at: START_MS + duration_ms(at), "offset": int}.get(words[0], str)
    return {"start": words[0]} | ({"at": at(options["at"])} if "at" in options else {})


def _clock(at_ms: int) -> str:
    return f"{(at_ms - START_MS) / 1000:g}s"


def _options(options: dict[str, str]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for key, value in options.items():
        name = f"{key}_ms" if key in DURATIONS else key
        found[name] = None if value == "none" else int(value) if key in NUMBERS else duration_ms(value)
    return found


def _counts(info: dict[str, Any]) -> str:
    named = [group for group in info["groups"] if group["name"]]
    parts = [f"{group['name']}: {_of(group)}" for group in named] if named else [_of(info)]
    span = f"{info['first']}..{info['next']}"
    return "; ".join([span, *parts, *(["paused"] if info["paused"] else [])])


def _of(counts: dict[str, Any]) -> str:
    return ", ".join(f"{counts[key]} {key}" for key in LIST_COUNTS if counts[key]) or "empty"


def _job(job: dict[str, Any]) -> str:
    more = [f"dead letter {job['dead_offset']}"] if "dead_offset" in job else []
    more += [job["reason"]] if "reason" in job else []
    history = f"attempt {job['attempt']}, failures {job['failures']}"
    return f"{job['offset']} {job['status']} ({', '.join([history, *more])})"


def _outcomes(reply: Reply) -> str:
    bodies = iter(reply.bodies)
    told = []
    for first, count, status, reason in reply.body["outcomes"]:
        for offset in range(first, first + count):
            data = next(bodies).decode()
            told.append(" ".join(part for part in (str(offset), status, data, f"[{reason}]" if reason else "") if part))
    return ", ".join(told)
