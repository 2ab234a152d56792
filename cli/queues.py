"""penstock queue: create, list, show, delete, purge, pause, resume, move, peek, configure."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable
from typing import Any

import click

from ..peers.errors import InvalidArgument
from ..peers.units import rate_of
from . import output
from .messages import message_row
from .options import (
    NO_LIMIT,
    Noun,
    Options,
    Reading,
    complete_names,
    confirm,
    count_or_none,
    duration,
    size_or_none,
)

COLUMNS = ("name", "ready", "delayed", "waiting", "leased", "done", "dead", "bytes", "oldest_ms", "paused")
Decorated = Callable[..., Any]

name_argument = click.argument("name", shell_complete=complete_names("queue"))


retry_options = (
    click.option("--max-failures", type=count_or_none, help="To the dead letters after so many failures, or none."),
    click.option("--retry-delay", type=duration, help="Pause before a failed message is given again."),
    click.option("--retry-backoff", type=click.Choice(["constant", "exponential"]), help="How that pause grows."),
    click.option("--retry-delay-max", type=duration, help="The longest pause."),
    click.option("--retry-jitter", type=click.IntRange(0, 100), help="Percent by which it may be shorter."),
)


def queue_options(function: Decorated) -> Decorated:
    """The options of a queue that can be changed, all optional: what is not given stays as it is."""
    options = (
        click.option("--max-messages", type=count_or_none, help="No room for more than this, or none."),
        click.option("--max-bytes", type=size_or_none, help="No room for more bytes than this, or none."),
        click.option("--overflow", type=click.Choice(["reject", "drop_oldest"]), help="What happens without room."),
        click.option("--max-message", type=size_or_none, help="Refuse larger bodies, or none."),
        click.option("--rate", type=rate_or_none, metavar="100/s", help="Give out so many: 100/s, 10/m, or none."),
        click.option("--max-leased", type=count_or_none, help="So many in hand at once, or none."),
        *retry_options,
        click.option("--result-ttl", type=duration, help="How long results of jobs are kept."),
        click.option("--unique", type=duration, help="How long an id is taken."),
        click.option("--result-queue", help="Send results there as well, or none."),
    )
    return decorated(function, options)


def decorated(function: Decorated, options: Iterable[Callable[[Decorated], Decorated]]) -> Decorated:
    """The function with these options, in this order."""
    for option in reversed([*options]):  # as decorators would be applied
        function = option(function)
    return function


def rate_or_none(value: str) -> str:
    """A rate such as 100/s, checked, or the word `none`."""
    if value != NO_LIMIT:
        try:
            rate_of(value)
        except InvalidArgument as error:
            raise click.BadParameter(str(error)) from error
    return value


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given; the word `none` means no limit."""
    return {key: None if value == NO_LIMIT else value for key, value in values.items() if value is not None}


@click.group(cls=Noun)
def queue() -> None:
    """Queues: each message goes to one consumer."""


@queue.command()
@click.argument("name")
@queue_options
@click.option("--ordered-by", type=click.Choice(["key"]), help="One message of a key in hand at a time.")
@click.pass_obj
def create(options: Options, /, name: str, **values: Any) -> None:
    """Create the queue NAME."""
    with options.connect() as client:
        output.one(info_row(client.create_queue(name, **given(values))), options.json)


@queue.command(name="list", cls=Reading)
@click.pass_obj
def list_(options: Options) -> None:
    """All queues. In a pipe: name, ready, delayed, waiting, leased, done, dead, bytes, oldest_ms, paused."""
    with options.reading() as client:
        output.rows(map(info_row, client.list_queues()), COLUMNS, options.json)


@queue.command(cls=Reading)
@name_argument
@click.pass_obj
def show(options: Options, name: str) -> None:
    """Everything about the queue NAME."""
    with options.reading() as client:
        output.one(info_row(client.describe(name)), options.json)


@queue.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def delete(options: Options, name: str, yes: bool) -> None:
    """Delete the queue NAME with everything in it."""
    with options.connect() as client:
        info = client.describe(name)
        confirm(f"Delete {name} with {info.unfinished} messages?", yes)
        client.delete(name)
        output.one({"deleted": name}, options.json)


@queue.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(options: Options, name: str, yes: bool) -> None:
    """Throw away what waits in the queue NAME. What a consumer holds stays."""
    with options.connect() as client:
        info = client.describe(name)
        confirm(f"Throw away the {info.unfinished - info.leased} messages that wait in {name}?", yes)
        output.one({"name": name, "purged": client.purge(name)}, options.json)


@queue.command()
@name_argument
@click.pass_obj
def pause(options: Options, name: str) -> None:
    """Take messages into NAME, give none out."""
    with options.connect() as client:
        output.one(info_row(client.pause(name)), options.json)


@queue.command()
@name_argument
@click.pass_obj
def resume(options: Options, name: str) -> None:
    """Give messages of NAME out again."""
    with options.connect() as client:
        output.one(info_row(client.resume(name)), options.json)


@queue.command()
@name_argument
@click.argument("target", shell_complete=complete_names("queue"))
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the oldest first.")
@click.pass_obj
def move(options: Options, name: str, target: str, limit: int | None) -> None:
    """Move what waits in NAME to the end of the queue TARGET."""
    with options.connect() as client:
        output.one({"name": name, "target": target, "moved": client.move(name, target, limit=limit)}, options.json)


@queue.command(cls=Reading)
@name_argument
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.pass_obj
def peek(options: Options, name: str, limit: int) -> None:
    """Look at the next messages of NAME without taking them. In a pipe: offset, key, body (or its size, if it is no
    UTF-8). With --json also their headers: a dead letter says there why it died."""
    with options.reading() as client:
        items = [message_row(message) for message in client.peek(name, limit=limit)]
        if not options.json:
            for item in items:
                item.setdefault("body", f"({len(b64decode(item.get('body_base64', '')))} bytes)")
        output.rows(items, ("offset", "key", "body"), options.json)


@queue.command()
@name_argument
@queue_options
@click.pass_obj
def configure(options: Options, /, name: str, **values: Any) -> None:
    """Change options of the queue NAME; those that are not given stay."""
    with options.connect() as client:
        output.one(info_row(client.configure(name, **given(values))), options.json)


def info_row(info: Any) -> dict[str, Any]:
    """A queue's or topic's info as one object."""
    row: dict[str, Any] = output.jsonable(info)
    return row
