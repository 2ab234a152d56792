"""penstock metrics: the figures of one daemon, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from . import output
from .options import Options, Verb

if TYPE_CHECKING:
    from ..client.cluster import ClusterInfo
    from ..client.infos import QueueInfo, TopicInfo

STATES: Final = ("ready", "delayed", "waiting", "leased", "done", "dead")


class Sample(NamedTuple):
    """One figure; `name` without its prefix. Counters end in _total. None: it is not known now, and left out."""

    name: str
    value: float | None
    labels: tuple[tuple[str, str], ...] = ()


@click.command(cls=Verb)
@click.pass_obj
def metrics(options: Options) -> None:
    """The figures of one daemon in the text format of Prometheus: what it is and did, its queues and groups, and how
    far the other nodes are.

    Of several --endpoint the first that answers, primary or not: ask each node with its own. For the textfile
    collector of the node exporter, say each 15 s; an object a line with --json. Exit code 5 if no daemon answers.
    """
    with options.connect(read_only=True) as client:
        status, cluster = client.status(), client.cluster()
        found = [*of_daemon(status), *of_cluster(cluster), *of_queues([*client.list_queues(), *client.list_topics()])]
    samples = [sample for sample in found if sample.value is not None]
    if options.json:
        for sample in samples:
            output.say_json({"name": f"penstock_{sample.name}", "value": sample.value, "labels": dict(sample.labels)})
    else:
        for line in text_of(samples, (("node", str(status["node"])),)):
            output.say(line)


def of_daemon(status: dict[str, Any]) -> Iterator[Sample]:
    """What it says of itself."""
    yield Sample("info", 1, tuple((key, str(status[key])) for key in ("version", "cluster", "durability")))
    yield Sample("primary", status["role"] == "primary")
    for key in ("term", "applied", "sessions", "parked"):
        yield Sample(key, status[key])
    yield Sample("uptime_seconds", status["uptime_ms"] / 1000)
    for key, value in status["storage"].items():
        yield Sample(f"storage_{key}", value)
    for key, value in status["counters"].items():
        yield Sample("commit_max_seconds", value / 1000) if key == "commit_max_ms" else Sample(f"{key}_total", value)


def of_cluster(cluster: ClusterInfo) -> Iterator[Sample]:
    """What it knows of the other nodes: only the primary knows how far they are."""
    yield Sample("primary_known", cluster.primary is not None)
    for member in cluster.members:
        labels = (("member", str(member.node)),)
        yield Sample("member_connected", member.connected, labels)
        yield Sample("member_voter", member.voter, labels)
        yield Sample("member_lag_entries", member.lag, labels)
        yield Sample("member_lag_bytes", member.lag_bytes, labels)


def of_queues(infos: Iterable[QueueInfo | TopicInfo]) -> Iterator[Sample]:
    """What is kept, of all queues and topics, and how far each group is."""
    for info in infos:
        name = ((info.kind, info.name),)
        yield Sample(f"{info.kind}_bytes", info.bytes, name)
        yield Sample(f"{info.kind}_paused", info.paused, name)
        yield Sample(f"{info.kind}_published_total", info.next, name)
        for group in info.groups:
            labels = (*name, ("group", group.name)) if info.kind == "topic" else name
            what = "group" if info.kind == "topic" else "queue"
            for state in STATES:
                yield Sample(f"{what}_messages", getattr(group, state), (*labels, ("state", state)))
            yield Sample(f"{what}_lag_messages", group.lag, labels)
            yield Sample(f"{what}_oldest_seconds", None if group.oldest_ms is None else group.oldest_ms / 1000, labels)


def text_of(samples: Iterable[Sample], common: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """The lines: those of one name together, as the format asks for."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    for name, same in by_name.items():
        yield f"# TYPE penstock_{name} {'counter' if name.endswith('_total') else 'gauge'}"
        for sample in same:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in (*common, *sample.labels))
            yield f"penstock_{name}{{{labels}}} {float(sample.value or 0):.17g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
