"""Counted requests, checked argument by argument, as the commands they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ..peers import messages as m
from ..peers.errors import InvalidArgument, TooLarge, shown
from ..peers.messages import Command, Ranges
from ..peers.wire import Headers, pack_payload, unpack_payload
from .options import NAME, QUEUE, TOPIC, Options, change_options, check_option
from .properties import keys_of, properties_of
from .queues import Queue
from .topics import EARLIEST, LATEST, STARTS

Args = Mapping[str, Any]
RANGES_MAX = 100_000
LEASES_MAX = 100_000
DELAY_MAX_MS = 10 * 365 * 86_400_000
OFFSET_MAX = 2**62
REASON_MAX = 10_000
LETTERS_MAX = 2_000  # dead letters of a group in one request
WAIT_MAX_MS = 3_600_000
NO_PAYLOAD = b""


class Bounds(NamedTuple):
    """What a request may ask for, out of [limits] and [storage]."""

    max_message: int
    max_batch: int
    lease_max_ms: int
    queues: Mapping[str, Queue] = {}  # as they are at present


class Proposal(NamedTuple):
    """A command for the log, with the payload its entry keeps."""

    command: Command
    payload: bytes


# -- arguments --------------------------------------------------------------------------------------------------------

_MISSING = object()


def text(args: Args, name: str, length_max: int = 1000, default: Any = _MISSING) -> str:
    value = args.get(name, default)
    if type(value) is not str or len(value) > length_max:
        raise InvalidArgument(f"{name} is {_shown(value)}", f"give a text of at most {length_max} characters")
    return value


@lru_cache(maxsize=4096)
def _is_name(value: str) -> bool:
    return NAME.fullmatch(value) is not None


def name_of(args: Args, name: str, default: Any = _MISSING) -> str:
    value = args.get(name, default)
    if type(value) is not str or (value != default and not _is_name(value)):
        raise InvalidArgument(
            f"{name} is {_shown(value)}, which is no name",
            "a name has 1 to 200 letters, digits, '.', '_' or '-', and does not start with '-'",
        )
    return value


def integer(args: Args, name: str, low: int, high: int, default: Any = _MISSING) -> int:
    value = args.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise InvalidArgument(f"{name} is {_shown(value)}", f"give an integer from {low} to {high}")
    return value


def choice(args: Args, name: str, choices: tuple[str, ...], default: Any = _MISSING) -> str:
    value = args.get(name, default)
    if value not in choices:
        raise InvalidArgument(f"{name} is {_shown(value)}", f"give one of {', '.join(choices)}")
    return str(value)


def ranges(args: Args) -> Ranges:
    value = args.get("ranges", _MISSING)
    if type(value) is tuple and 0 < len(value) <= RANGES_MAX and all(map(_is_range, value)):
        return value
    raise InvalidArgument(
        f"ranges is {_shown(value)}", f"give a list of 1 to {RANGES_MAX} pairs [first offset, count], counts from 1 on"
    )


def _is_range(value: Any) -> bool:
    return (
        type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int
        and 0 <= value[0] < OFFSET_MAX and 0 < value[1] < OFFSET_MAX
    )  # fmt: skip


def _shown(value: Any) -> str:
    return "missing" if value is _MISSING else shown(value)


def lease_of(args: Args) -> int:
    return integer(args, "lease", 0, OFFSET_MAX)


def lease_ms(args: Args, bounds: Bounds, default: Any = _MISSING) -> int:
    return integer(args, "lease_ms", 1, bounds.lease_max_ms, default)


# -- one function for each op: (args, payload, bounds) -> what goes into the log --------------------------------------


def _create(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    kind = choice(args, "kind", (QUEUE, TOPIC))
    options = _options(args)
    change_options(Options(), options, kind)
    return Proposal(m.Create(name_of(args, "name"), kind, options), NO_PAYLOAD)


def _configure(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    options = _options(args)
    for name, value in options.items():  # nothing but plain values may get into the log
        check_option(name, value, None)
    return Proposal(m.Configure(name_of(args, "name"), options), NO_PAYLOAD)


def _options(args: Args) -> dict[str, Any]:
    value = args.get("options")
    if value is None:
        return {}
    if type(value) is not dict or any(type(key) is not str for key in value):
        raise InvalidArgument(f"options is {_shown(value)}", "give a map from option name to value")
    return value


def _delete(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Delete(name_of(args, "name")), NO_PAYLOAD)


def _purge(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Purge(name_of(args, "name")), NO_PAYLOAD)


def _pause(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Pause(name_of(args, "name"), True), NO_PAYLOAD)


def _resume(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Pause(name_of(args, "name"), False), NO_PAYLOAD)


def _group_create(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.CreateGroup(name_of(args, "topic"), name_of(args, "group"), *beginning(args)), NO_PAYLOAD)


def _group_seek(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.SeekGroup(name_of(args, "topic"), name_of(args, "group"), *beginning(args)), NO_PAYLOAD)


def _group_retry(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    limit = integer(args, "limit", 1, LETTERS_MAX, 1000)
    return Proposal(m.RetryGroup(name_of(args, "topic"), name_of(args, "group"), limit), NO_PAYLOAD)


def beginning(args: Args) -> tuple[str, int]:
    """Where reading begins: `start`, and `at`, which only an offset and a time need."""
    start = choice(args, "start", STARTS, EARLIEST)
    if start in (EARLIEST, LATEST):
        if args.get("at") is not None:
            raise InvalidArgument(f"at is {shown(args['at'])}, and start {start}", "leave at out")
        return start, 0
    return start, integer(args, "at", 0, OFFSET_MAX)


def _group_delete(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.DeleteGroup(name_of(args, "topic"), name_of(args, "group")), NO_PAYLOAD)


def _append(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(append_of(args, payload, bounds), payload or NO_PAYLOAD)


def append_of(args: Args, payload: bytes | None, bounds: Bounds) -> m.Append:
    """The command for an append of the payload, which is then known to be right."""
    name = name_of(args, "queue")
    count = integer(args, "count", 1, OFFSET_MAX)
    raw, some, headers = bodies(payload, count, bounds)
    queue, properties = bounds.queues.get(name), None
    if len(args) > 2:
        properties = properties_of(args, count)
        if args.get("jobs") is True and queue is not None and queue.kind != QUEUE:
            raise InvalidArgument(f"{name} is a topic and has no jobs", "jobs live in queues")
    return m.Append(name, count, len(raw), headers is None, properties, check_for(queue, some, headers))


def check_for(queue: Queue | None, some: list[bytes], headers: Headers) -> tuple[str | None, ...] | None:
    """What a queue asks of the messages of a batch; the keys, if it is ordered by them. Raises TooLarge."""
    if queue is None:
        return None
    if (largest := queue.options.max_message) is not None and max(map(len, some)) > largest:
        raise TooLarge(
            f"a body has {max(map(len, some))} bytes, {queue.name} takes at most {largest}",
            "send smaller ones, or raise max_message of the queue",
        )
    return keys_of(headers) if queue.options.ordered_by else None


def bodies(payload: bytes | None, count: int, bounds: Bounds) -> tuple[bytes, list[bytes], Headers]:
    """The payload, checked, and what is in it."""
    if payload is None:
        raise InvalidArgument("the payload is missing", "send a third frame: msgpack [bodies, headers]")
    if len(payload) > bounds.max_message:
        raise TooLarge(
            f"the payload has {len(payload)} bytes, at most {bounds.max_message} are taken",
            "send smaller batches, or raise [storage] max_message",
        )
    if count > bounds.max_batch:
        raise TooLarge(
            f"the batch has {count} messages, at most {bounds.max_batch} are taken",
            "send smaller batches, or raise [limits] max_batch",
        )
    bodies, headers = unpack_payload(payload)
    if len(bodies) != count:
        raise InvalidArgument(
            f"count is {count}, but the payload has {len(bodies)} bodies", "give the number of bodies"
        )
    return payload, bodies, headers


def _ack(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Ack(lease_of(args), ranges(args)), NO_PAYLOAD)


def _nack(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    delay_ms = args.get("delay_ms")
    if delay_ms is not None:
        integer(args, "delay_ms", 0, DELAY_MAX_MS)
    error = _error(args, bounds)
    reason = text(args, "reason", REASON_MAX, "")
    return Proposal(m.Nack(lease_of(args), ranges(args), delay_ms, bool(error), reason), error)


def _reject(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    reason = text(args, "reason", REASON_MAX, "")
    error = _error(args, bounds)
    error_text = text(args, "error_text", REASON_MAX, "")
    return Proposal(m.Reject(lease_of(args), ranges(args), reason, bool(error), error_text), error)


def _error(args: Args, bounds: Bounds) -> bytes:
    value = args.get("error")
    if value is None:
        return NO_PAYLOAD
    if type(value) is not bytes or len(value) > bounds.max_message:
        raise InvalidArgument(f"error is {_shown(value)}", f"give bin of at most {bounds.max_message} bytes")
    return pack_payload([value])


def _release(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    return Proposal(m.Release(lease_of(args), ranges(args) if args.get("ranges") is not None else None), NO_PAYLOAD)


def _extend(args: Args, payload: bytes | None, bounds: Bounds) -> Proposal:
    leases = args.get("leases", _MISSING)
    if type(leases) is not tuple or not 0 < len(leases) <= LEASES_MAX or any(type(it) is not int for it in leases):
        raise InvalidArgument(f"leases is {_shown(leases)}", f"give a list of 1 to {LEASES_MAX} lease ids")
    return Proposal(m.Extend(leases, lease_ms(args, bounds)), NO_PAYLOAD)


COUNTED: dict[str, Callable[[Args, bytes | None, Bounds], Proposal]] = {
    "append": _append, "ack": _ack, "nack": _nack, "reject": _reject, "release": _release,
    "extend": _extend, "create": _create, "configure": _configure, "delete": _delete, "purge": _purge, "pause": _pause,
    "resume": _resume, "group_create": _group_create, "group_seek": _group_seek, "group_delete": _group_delete,
    "group_retry": _group_retry,
}  # fmt: skip
