"""What `push` and `job submit` say of their messages: priority, delay, id, parents and the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import click

from .options import duration

Decorated = Callable[..., Any]
TIME: Final = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d)?")
SECONDS: Final = re.compile(r"\d{1,11}(\.\d+)?")


def due_time(value: str | datetime) -> datetime:
    """A moment out of 2030-01-31T08:00 (local time, unless a zone is given), 08:00 (the next one) or seconds since
    1970."""
    if isinstance(value, datetime):
        return value
    try:
        if SECONDS.fullmatch(value):
            return datetime.fromtimestamp(float(value)).astimezone()
        if TIME.fullmatch(value):
            now = datetime.now()
            hour, minute, second = (*map(int, value.split(":")), 0)[:3]
            today = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
            return today if today > now else today + timedelta(days=1)
        return datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no moment (give 2030-01-31T08:00, 08:00, or seconds since 1970)") from (
            error
        )


def header_pair(value: str) -> tuple[str, str]:
    """A header out of KEY=VALUE."""
    key, equals, text = value.partition("=")
    if not equals:
        raise click.BadParameter(f"{value!r} has no = (write KEY=VALUE)")
    return key, text


def sending_options(function: Decorated) -> Decorated:
    """The options of a message in a queue, all optional."""
    options = (
        click.option(
            "--header",
            "headers",
            multiple=True,
            type=header_pair,
            callback=lambda context, parameter, pairs: dict(pairs),
            metavar="KEY=VALUE",
            help="A header; may be repeated.",
        ),
        click.option("--delay", type=duration, help="Not before this is over."),
        click.option("--at", "due", type=due_time, metavar="MOMENT", help="Not before 2030-01-31T08:00, or 08:00."),
        click.option("--id", "id", help="Refused while another one of this id is known."),
        click.option("--after", multiple=True, metavar="ID", help="Jobs that must end first; may be repeated."),
        click.option(
            "--on-failure", type=click.Choice(["cancel", "release"]), help="If one of those fails.  [default: cancel]"
        ),
    )
    function = standing_options(function)
    for option in reversed(options):  # as decorators would be applied
        function = option(function)
    return function


def standing_options(function: Decorated) -> Decorated:
    """Those of them that also hold for messages which are made again and again."""
    options = (
        click.option("--priority", type=click.IntRange(0, 9), help="9 is given first.  [default: 0]"),
        click.option("--ttl", type=duration, help="What is not done by then expires."),
        click.option("--key", help="The key of the message."),
        click.option("--max-failures", type=click.IntRange(min=1), help="Dead after so many, not as the queue has it."),
        click.option("--retry-delay", type=duration, help="Pause before the next try, not as the queue has it."),
        click.option("--retry-backoff", type=click.Choice(["constant", "exponential"]), help="How that pause grows."),
    )
    for option in reversed(options):  # as decorators would be applied
        function = option(function)
    return function


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as `Client.submit` takes them."""
    return {name: value for name, value in values.items() if value not in (None, (), {})}
