"""penstock push, pull."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..peers.errors import InvalidArgument
from . import output
from .exits import SIGNALLED, stop_by_signal
from .options import Options, Verb, complete_names, duration
from .places import place
from .sending import given, sending_options

if TYPE_CHECKING:
    from ..client import Consumer, Message
    from ..client.replay import Start

NOTHING_CAME = 6  # the exit code of a pull that got no message: its time ran out
TAKE = 1000  # messages of one receive
KEY = "penstock-key"  # among the headers; shown beside them


@click.command(cls=Verb)
@click.argument("name", shell_complete=complete_names(None))
@click.argument("body", required=False)
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The body is this file."
)
@sending_options
@click.pass_obj
def push(options: Options, /, name: str, body: str | None, file: Path | None, **values: Any) -> None:
    """Publish BODY to the queue or topic NAME; `-`: one message for every line of stdin, all with the same options.

    Returns when everything is acknowledged. All options but --header, --key and --file are for queues.
    """
    chosen = given(values)
    if "id" in chosen and body == "-":
        raise InvalidArgument("--id is given for the lines of stdin", "an id is that of one message")
    bodies = _bodies(body, file)
    pushed = 0
    with options.connect() as client, client.producer(name) as producer:
        for item in bodies:
            receipt = producer.send(item, **chosen)
            pushed += 1
        producer.flush(timeout=options.timeout)
        result: dict[str, Any] = {"name": name, "pushed": pushed}
        if pushed:
            result["last"] = receipt.wait(timeout=options.timeout)
        if options.json:
            output.say_json(result)
        else:
            output.note(f"{pushed} acknowledged")


@click.command(cls=Verb)
@click.argument("name", shell_complete=complete_names(None))
@click.option("--group", default="", help="Topics: the group to read as; made if it is new.")
@click.option("--start", type=place, default="earliest", help="Where a new group begins: see `topic replay --from`.")
@click.option(
    "-n", "--number", default=1, show_default=True, type=click.IntRange(min=0), help="How many; 0: until none comes."
)
@click.option("--wait", default="1s", show_default=True, type=duration, help="How long to wait for the next one.")
@click.option("--lease", default="30s", show_default=True, type=duration, help="How long they are ours.")
@click.option("--ack", is_flag=True, help="They are done once they are printed.")
@click.pass_obj
def pull(
    options: Options, name: str, group: str, start: Start, number: int, wait: float, lease: float, ack: bool
) -> int:
    """Take messages of the queue or topic NAME and print their bodies, one a line.

    Without --ack they are given back at the end, unharmed. With --json a body that is no UTF-8 comes as body_base64.
    Exit code 6 if nothing came.
    """
    taken = 0
    with (
        options.connect() as client,
        client.consumer(name, group=group, start=start, lease=lease, prefetch=0) as consumer,
    ):
        signals = stop_by_signal(consumer.stop)  # what it holds is given back
        for messages in _batches(consumer, number, wait):
            for message in messages:
                _print(message, options.json)
            taken += len(messages)
            sys.stdout.flush()  # printed, then acknowledged: a closed pipe must not lose them
            if ack:
                consumer.ack_many(messages).wait(timeout=options.patience)
    if signals:
        return SIGNALLED + signals[0]
    if not taken:
        output.note(f"nothing came within {wait:g} s")
    return 0 if taken else NOTHING_CAME


def message_row(message: Message) -> dict[str, Any]:
    """A message as one object."""
    row: dict[str, Any] = {
        "offset": message.offset,
        "attempt": message.attempt,
        "failures": message.failures,
        "timestamp": message.timestamp,
        "key": message.key,
        # With Penstock's own: a dead letter says why it died.
        "headers": {name: value for name, value in message.all_headers.items() if name != KEY},
    }
    text = output.text_of(message.body)
    row["body" if text.encode() == message.body else "body_base64"] = text
    return row


def _batches(consumer: Consumer, number: int, wait: float) -> Iterator[list[Message]]:
    taken = 0
    while not number or taken < number:
        messages = consumer.receive_many(min(number - taken, TAKE) if number else TAKE, timeout=wait)
        if not messages:
            return
        taken += len(messages)
        yield messages


def _print(message: Message, as_json: bool) -> None:
    if as_json:
        output.say_json(message_row(message))
    else:
        sys.stdout.buffer.write(message.body + b"\n")


def _bodies(body: str | None, file: Path | None) -> Iterator[bytes]:
    """The bodies to send. Raises InvalidArgument at once if there is not exactly one source of them."""
    if body is not None and file is None:
        lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
        return lines if body == "-" else iter([body.encode(errors="surrogateescape")])
    if body is None and file is not None:
        return iter([file.read_bytes()])
    raise InvalidArgument("one body is needed", "give BODY, or - for the lines of stdin, or --file FILE")
