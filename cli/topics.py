"""penstock topic: create, list, show, delete. penstock group: create, list, delete."""

from __future__ import annotations

from typing import Any

import click

from . import output
from .options import Noun, Options, complete_names, confirm, count_or_none, duration_or_none, size_or_none
from .queues import given, info_row

COLUMNS = ("name", "first", "next", "ready", "leased", "bytes", "oldest_ms")
GROUP_COLUMNS = ("name", "ready", "delayed", "leased", "done", "dead", "floor")

topic_argument = click.argument("topic", shell_complete=complete_names("topic"))


@click.group(cls=Noun)
def topic() -> None:
    """Topics: a log; every group sees every message."""


@topic.command()
@click.argument("name")
@click.option("--retention", type=duration_or_none, help="Messages older than this go, or none.  [default: none]")
@click.option("--max-messages", type=count_or_none, help="Refuse more messages than this, or none.")
@click.option("--max-bytes", type=size_or_none, help="Refuse more bytes than this, or none.")
@click.option("--max-failures", type=count_or_none, help="To the dead letters after so many failures, or none.")
@click.pass_obj
def create(options: Options, /, name: str, **values: Any) -> None:
    """Create the topic NAME."""
    with options.connect() as client:
        output.one(info_row(client.create_topic(name, **given(values))), options.json)


@topic.command(name="list")
@click.pass_obj
def list_(options: Options) -> None:
    """All topics. In a pipe: name, first, next, ready, leased, bytes, oldest_ms."""
    with options.connect() as client:
        output.rows(map(info_row, client.list_topics()), COLUMNS, options.json)


@topic.command()
@topic_argument
@click.pass_obj
def show(options: Options, topic: str) -> None:
    """Everything about the topic TOPIC."""
    with options.connect() as client:
        output.one(info_row(client.describe(topic)), options.json)


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


@click.group(cls=Noun)
def group() -> None:
    """Groups: the readers of a topic, each with a position of its own."""


@group.command(name="create")
@topic_argument
@click.argument("group")
@click.option(
    "--start", type=click.Choice(["earliest", "latest"]), default="earliest", show_default=True, help="Where it begins."
)
@click.pass_obj
def create_group(options: Options, topic: str, group: str, start: str) -> None:
    """Create GROUP on TOPIC."""
    with options.connect() as client:
        output.one(info_row(client.create_group(topic, group, start=start)), options.json)


@group.command(name="list")
@topic_argument
@click.pass_obj
def list_groups(options: Options, topic: str) -> None:
    """The groups of TOPIC. In a pipe: name, ready, delayed, leased, done, dead, floor."""
    with options.connect() as client:
        output.rows(map(info_row, client.describe(topic).groups), GROUP_COLUMNS, options.json)


@group.command(name="delete")
@topic_argument
@click.argument("group")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete_group(options: Options, topic: str, group: str, yes: bool) -> None:
    """Delete GROUP of TOPIC with its position."""
    confirm(f"Delete the group {group} of {topic} with its position?", yes)
    with options.connect() as client:
        client.delete_group(topic, group)
        output.one({"deleted": group, "topic": topic}, options.json)
