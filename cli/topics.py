"""penstock topic: create, list, show, configure, replay, delete."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from . import output
from .messages import message_row
from .options import Noun, Options, Reading, complete_names, confirm, count_or_none, duration_or_none, size_or_none
from .places import place, stop
from .queues import Decorated, decorated, given, info_row, retry_options

if TYPE_CHECKING:
    from ..client.replay import Start, Stop

COLUMNS = ("name", "first", "next", "bytes", "groups", "lag", "oldest_ms")

topic_argument = click.argument("topic", shell_complete=complete_names("topic"))


def topic_options(function: Decorated) -> Decorated:
    """The options of a topic, all optional: what is not given stays as it is."""
    options = (
        click.option("--retention", type=duration_or_none, help="Messages older than this go, or none."),
        click.option("--retention-bytes", type=size_or_none, help="Beyond so many bytes the oldest go, or none."),
        click.option("--retention-messages", type=count_or_none, help="Beyond so many the oldest go, or none."),
        *retry_options,
    )
    return decorated(function, options)


@click.group(cls=Noun)
def topic() -> None:
    """Topics: a log; every group sees every message."""


@topic.command()
@click.argument("name")
@topic_options
@click.pass_obj
def create(options: Options, /, name: str, **values: Any) -> None:
    """Create the topic NAME."""
    with options.connect() as client:
        output.one(info_row(client.create_topic(name, **given(values))), options.json)


@topic.command(name="list", cls=Reading)
@click.pass_obj
def list_(options: Options) -> None:
    """All topics, each with the lag of the group that is furthest behind.

    In a pipe: name, first, next, bytes, groups, lag, oldest_ms.
    """
    with options.reading() as client:
        infos = client.list_topics()
        rows = [info_row(info) | {"lag": info.lag} for info in infos]
        if not options.json:
            rows = [row | {"groups": len(row["groups"])} for row in rows]
        output.rows(rows, COLUMNS, options.json)


@topic.command(cls=Reading)
@topic_argument
@click.pass_obj
def show(options: Options, topic: str) -> None:
    """Everything about the topic TOPIC and its groups."""
    with options.reading() as client:
        row = info_row(client.describe(topic))
    if not options.json:
        row["groups"] = {group.pop("name"): group for group in row["groups"]}
    output.one(row, options.json)


@topic.command()
@topic_argument
@topic_options
@click.pass_obj
def configure(options: Options, /, topic: str, **values: Any) -> None:
    """Change options of the topic TOPIC; those that are not given stay."""
    with options.connect() as client:
        output.one(info_row(client.configure(topic, **given(values))), options.json)


@topic.command(cls=Reading)
@topic_argument
@click.option(
    "--from",
    "start",
    type=place,
    default="earliest",
    show_default=True,
    help="earliest, latest, an offset, a time (2026-11-22T10:00), or so long ago (15m).",
)
@click.option("--until", type=stop, help="An offset or a time; what is there or later is not read.")
@click.option("-n", "--number", default=0, type=click.IntRange(min=0), help="At most so many.  [default: all]")
@click.option("--follow", is_flag=True, help="Wait for what comes, until it is interrupted.")
@click.pass_obj
def replay(options: Options, topic: str, start: Start, until: Stop | None, number: int, follow: bool) -> None:
    """Print messages of TOPIC, one a line, past all groups: nothing is taken, and nothing is acked.

    With --json each comes with its offset, time, key and headers.
    """
    with options.reading() as client:
        messages = client.replay(
            topic, start, until, wait=None if follow else 0, consistency="local" if options.local else "primary"
        )
        for message in islice(messages, number or None):
            if options.json:
                output.say_json(message_row(message))
            else:
                sys.stdout.buffer.write(message.body + b"\n")
            if follow:
                sys.stdout.flush()


@topic.command()
@topic_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(options: Options, topic: str, yes: bool) -> None:
    """Delete the topic TOPIC, its messages and its groups."""
    with options.connect() as client:
        info = client.describe(topic)
        confirm(f"Delete {topic} with {info.next - info.first} messages and {len(info.groups)} groups?", yes)
        client.delete(topic)
        output.one({"deleted": topic}, options.json)
