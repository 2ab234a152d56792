"""penstock group: create, list, show, seek, retry, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from . import output
from .options import Noun, Options, Reading, complete_names, confirm
from .places import STARTS, start_at
from .queues import info_row

COLUMNS = ("name", "lag", "ready", "delayed", "leased", "done", "dead", "floor", "oldest_ms")

topic_argument = click.argument("topic", shell_complete=complete_names("topic"))
group_argument = click.argument("group")


def where(default: str | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Where it reads from: --start, --at."""

    def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option(
            "--at",
            help="With --start offset, an offset; with time, 2026-11-22T10:00, seconds since 1970, or 15m (ago).",
        )(function)
        return click.option(
            "--start",
            type=click.Choice(STARTS),
            default=default,
            required=default is None,
            show_default=default is not None,
            help="Where it begins to read.",
        )(function)

    return decorated


@click.group(cls=Noun)
def group() -> None:
    """Groups: the readers of a topic, each with a position of its own."""


@group.command()
@topic_argument
@group_argument
@where("earliest")
@click.pass_obj
def create(options: Options, topic: str, group: str, start: str, at: str | None) -> None:
    """Create GROUP on TOPIC."""
    begin = start_at(start, at)
    with options.connect() as client:
        output.one(info_row(client.create_group(topic, group, begin)), options.json)


@group.command(name="list", cls=Reading)
@topic_argument
@click.pass_obj
def list_(options: Options, topic: str) -> None:
    """The groups of TOPIC. In a pipe: name, lag, ready, delayed, leased, done, dead, floor, oldest_ms."""
    with options.reading() as client:
        output.rows(map(info_row, client.list_groups(topic)), COLUMNS, options.json)


@group.command(cls=Reading)
@topic_argument
@group_argument
@click.pass_obj
def show(options: Options, topic: str, group: str) -> None:
    """Where GROUP of TOPIC is, and how far behind."""
    with options.reading() as client:
        output.one(info_row(client.describe_group(topic, group)), options.json)


@group.command()
@topic_argument
@group_argument
@where(None)
@click.pass_obj
def seek(options: Options, topic: str, group: str, start: str, at: str | None) -> None:
    """Have GROUP of TOPIC read on from somewhere else: to read again, or to pass over what it has not read.

    It begins there as a new group would; whoever has messages of it in hand loses them.
    """
    begin = start_at(start, at)
    with options.connect() as client:
        output.one(info_row(client.seek_group(topic, group, begin)), options.json)


@group.command()
@topic_argument
@group_argument
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first.")
@click.pass_obj
def retry(options: Options, topic: str, group: str, limit: int | None) -> None:
    """Give GROUP its dead letters of TOPIC again; no other group gets them."""
    with options.connect() as client:
        retried = client.retry_group(topic, group, limit)
        output.one({"topic": topic, "group": group, "retried": retried}, options.json)


@group.command()
@topic_argument
@group_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(options: Options, topic: str, group: str, yes: bool) -> None:
    """Delete GROUP of TOPIC with its position."""
    confirm(f"Delete the group {group} of {topic} with its position?", yes)
    with options.connect() as client:
        client.delete_group(topic, group)
        output.one({"deleted": group, "topic": topic}, options.json)
