"""penstock metrics: the figures of one daemon, in the text format of Prometheus, once or for as long as it is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from ..peers.errors import InvalidArgument, PenstockError
from . import output
from .exits import SIGNALLED, stop_by_signal
from .options import Options, Verb

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

    from ..client import Client
    from ..client.cluster import ClusterInfo
    from ..client.infos import QueueInfo, TopicInfo

    Family = CounterMetricFamily | GaugeMetricFamily

STATES: Final = ("ready", "delayed", "waiting", "leased", "done", "dead")


@click.command(cls=Verb)
@click.option("--listen", metavar="HOST:PORT", help="Serve them there over HTTP, until SIGINT or SIGTERM.")
@click.pass_obj
def metrics(options: Options, listen: str | None) -> int | None:
    """The figures of one daemon in the text format of Prometheus: what it is and did, its queues and groups, and how
    far the other nodes are.

    Of several --endpoint the first that answers, primary or not: ask each node with its own. Exit code 5 if no daemon
    answers; with --listen, penstock_up is 0 then, and the others are missing.
    """
    if listen is not None:
        return _serve(options, listen)
    with options.connect(read_only=True) as client:
        figures = figures_of(client)
    if options.json:
        for family in figures.collect():
            for sample in family.samples:
                output.say_json({"name": sample.name, "value": sample.value, "labels": sample.labels})
        return None
    from prometheus_client import generate_latest

    output.say(generate_latest(figures).decode().rstrip("\n"))
    return None


class Figures:
    """Families of figures, as prometheus_client collects them."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def collect(self) -> Iterator[Family]:
        yield from self._families.values()

    def add(self, name: str, value: float | None, help: str, labels: Mapping[str, str]) -> None:
        """One figure; counters end in _total. None: it is not known now, and left out."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        if value is None:
            return
        family = self._families.get(name)
        if family is None:
            kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            family = self._families[name] = kind(f"penstock_{name}", help, labels=list(labels))
        family.add_metric(list(labels.values()), float(value))


def figures_of(client: Client) -> Figures:
    """All there is to say of the daemon that `client` reached."""
    status, cluster = client.status(), client.cluster()
    figures, node = Figures(), {"node": str(status["node"])}
    figures.add("up", 1, "Whether the daemon answers.", {})
    _add_daemon(figures, node, status)
    _add_cluster(figures, node, cluster)
    infos: list[QueueInfo | TopicInfo] = [*client.list_queues(), *client.list_topics()]
    for info in infos:
        _add_queue(figures, node, info)
    return figures


def _add_daemon(figures: Figures, node: dict[str, str], status: dict[str, Any]) -> None:
    about = {key: str(status[key]) for key in ("version", "cluster", "durability")}
    figures.add("info", 1, "What the daemon is.", node | about)
    figures.add("primary", status["role"] == "primary", "Whether it is the primary.", node)
    figures.add("term", status["term"], "The present term.", node)
    figures.add("applied", status["applied"], "The last log entry that is applied.", node)
    figures.add("sessions", status["sessions"], "Sessions of clients.", node)
    figures.add("parked", status["parked"], "Pulls that wait for messages.", node)
    figures.add("uptime_seconds", status["uptime_ms"] / 1000, "Time since the start.", node)
    for key, value in status["storage"].items():
        figures.add(f"storage_{key}", value, f"Storage, {key.replace('_', ' ')}.", node)
    for key, value in status["counters"].items():
        if key == "commit_max_ms":
            figures.add("commit_max_seconds", value / 1000, "The longest commit since the start.", node)
        else:
            figures.add(f"{key}_total", value, f"Since the start: {key.replace('_', ' ')}.", node)


def _add_cluster(figures: Figures, node: dict[str, str], cluster: ClusterInfo) -> None:
    """What it knows of the other nodes: only the primary knows how far they are."""
    figures.add("primary_known", cluster.primary is not None, "Whether it knows a primary.", node)
    for member in cluster.members:
        labels = node | {"member": str(member.node)}
        figures.add("member_connected", member.connected, "Whether the member is heard.", labels)
        figures.add("member_voter", member.voter, "Whether the member has a vote.", labels)
        figures.add("member_lag_entries", member.lag, "Log entries that the member lacks.", labels)
        figures.add("member_lag_bytes", member.lag_bytes, "Bytes of the log that the member lacks.", labels)


def _add_queue(figures: Figures, node: dict[str, str], info: QueueInfo | TopicInfo) -> None:
    """What is kept, and how far each group is."""
    kind = info.kind
    name = node | {kind: info.name}
    figures.add(f"{kind}_bytes", info.bytes, f"Bytes of the messages that a {kind} keeps.", name)
    figures.add(f"{kind}_paused", info.paused, f"Whether the {kind} is paused.", name)
    figures.add(f"{kind}_published_total", info.next, f"Messages ever published to the {kind}.", name)
    for group in info.groups:
        what, labels = ("group", name | {"group": group.name}) if kind == "topic" else (kind, name)
        for state in STATES:
            figures.add(f"{what}_messages", getattr(group, state), "Messages by state.", labels | {"state": state})
        figures.add(f"{what}_lag_messages", group.lag, "Messages that are not done.", labels)
        oldest_s = None if group.oldest_ms is None else group.oldest_ms / 1000
        figures.add(f"{what}_oldest_seconds", oldest_s, "The age of the oldest message that is not done.", labels)


class Scraped:
    """Asks the daemon anew at each scrape."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._turn = threading.Lock()  # the server answers each scrape in a thread of its own

    def collect(self) -> Iterator[Metric]:
        with self._turn:
            try:
                with self._options.connect(read_only=True) as client:
                    figures = figures_of(client)
            except PenstockError:
                figures = Figures()
                figures.add("up", 0, "Whether the daemon answers.", {})
        yield from figures.collect()


def _serve(options: Options, listen: str) -> int:
    from prometheus_client import start_http_server

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f"--listen is {listen!r}", "give HOST:PORT, such as 127.0.0.1:9464; port 0: a free one")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry=Scraped(options))
    except OSError as fault:
        why = fault.strerror or fault
        raise InvalidArgument(f"nobody can listen at {listen}: {why}", "give another HOST:PORT") from None
    ended = threading.Event()
    signals = stop_by_signal(ended.set)
    output.say(f"serving http://{host}:{server.server_port}/metrics")
    ended.wait()
    server.shutdown()
    thread.join()
    return SIGNALLED + signals[0]
