"""penstock schedule: add, list, show, remove, pause, resume, run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from ..peers.errors import InvalidArgument, ProtocolError
from . import output
from .options import Noun, Options, Reading, complete_names, confirm, duration
from .sending import given, standing_options

if TYPE_CHECKING:
    from ..client.infos import ScheduleInfo

COLUMNS = ("name", "queue", "when", "next", "last_job", "fired", "skipped", "paused", "reason")
UPCOMING = 5

name_argument = click.argument("name")


@click.group(cls=Noun)
def schedule() -> None:
    """Schedules: jobs that are made again and again, at the times of a cron line or at intervals."""


@schedule.command()
@name_argument
@click.argument("body", required=False)
@click.option("--queue", required=True, shell_complete=complete_names("queue"), help="Where its jobs go.")
@click.option("--cron", metavar="LINE", help="minute hour day-of-month month day-of-week, or @daily.")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="The time zone of the cron line.")
@click.option("--every", type=duration, help="Instead of --cron: so often, counted from now.")
@click.option("--task", help="Which task of the queue, where it has several.")
@click.option("--args", "arguments", metavar="JSON", help="The arguments of the job.  [default: {}]")
@click.option(
    "--missed",
    type=click.Choice(["once", "all", "skip"]),
    default="once",
    show_default=True,
    help="What becomes of times at which no daemon was there: one job for all of them, one for each, none.",
)
@standing_options
@click.option("--no-overlap", is_flag=True, help="No job while the last one has not ended.")
@click.option("--replace", is_flag=True, help="In place of the one of that name.")
@click.pass_obj
def add(
    options: Options, /, name: str, body: str | None, arguments: str | None, no_overlap: bool, **values: Any
) -> None:
    """Have a job made in a queue again and again: one with arguments, for a task, or one with the text BODY.

    Each due time makes one job, also through fail-overs and restarts.
    """
    if body is not None and arguments is not None:
        raise InvalidArgument("both BODY and --args are given", "give one of them")
    job: dict[str, Any] = {"args": _parse(arguments or "{}")}
    if body is not None:
        job = {"body": body.encode(errors="surrogateescape")}
    with options.connect() as client:
        info = client.schedules.add(name, **job, overlap=not no_overlap, **given(values))
        output.one(_row(info), options.json)


@schedule.command(name="list", cls=Reading)
@click.pass_obj
def list_(options: Options) -> None:
    """All schedules. In a pipe: name, queue, when, next, last_job, fired, skipped, paused, reason."""
    with options.reading() as client:
        output.rows(map(_row, client.schedules.list()), COLUMNS, options.json)


@schedule.command(cls=Reading)
@name_argument
@click.pass_obj
def show(options: Options, name: str) -> None:
    """Everything about the schedule NAME: also the job that it makes, and its next times as this machine sees them."""
    with options.reading() as client:
        info = client.schedules.get(name)
        output.one({**_row(info), "job": _job(info), "upcoming": _upcoming(info)}, options.json)


@schedule.command()
@name_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(options: Options, name: str, yes: bool) -> None:
    """End the schedule NAME. The jobs that it made stay."""
    with options.connect() as client:
        info = client.schedules.get(name)
        confirm(f"Remove the schedule {name}, {_when(info)}?", yes)
        client.schedules.remove(name)
        output.one({"removed": name}, options.json)


@schedule.command()
@name_argument
@click.pass_obj
def pause(options: Options, name: str) -> None:
    """Have the schedule NAME make no jobs. Times that pass meanwhile are missed."""
    with options.connect() as client:
        output.one(_row(client.schedules.pause(name)), options.json)


@schedule.command()
@name_argument
@click.pass_obj
def resume(options: Options, name: str) -> None:
    """Have the schedule NAME make jobs again, and make up for what was missed as it was asked to."""
    with options.connect() as client:
        output.one(_row(client.schedules.resume(name)), options.json)


@schedule.command()
@name_argument
@click.pass_obj
def run(options: Options, name: str) -> None:
    """Have the schedule NAME make a job now, beside those of its times. Prints its id."""
    with options.connect() as client:
        job = client.schedules.run(name)
        if options.json:
            output.say_json({"id": job.id})
        else:
            output.say(job.id)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"--args is no JSON: {error}", """write for example '{"assets": [0, 1]}'""") from error


def _row(info: ScheduleInfo) -> dict[str, Any]:
    row: dict[str, Any] = output.jsonable(info)
    del row["body"]
    return row | {"when": _when(info), "next": _time(info, info.next_ms), "last_job": info.last_job}


def _when(info: ScheduleInfo) -> str:
    return f"every {(info.every_ms or 0) / 1000:g}s" if info.cron is None else f"{info.cron} ({info.tz})"


def _time(info: ScheduleInfo, ms: int | None) -> str | None:
    """In the time zone of the schedule, or in UTC where this machine does not know it: the text says which."""
    if ms is None:
        return None
    try:
        zone: tzinfo = ZoneInfo(info.tz)
    except ZoneInfoNotFoundError:
        zone = UTC
    return datetime.fromtimestamp(ms / 1000, zone).isoformat(timespec="seconds")


def _job(info: ScheduleInfo) -> Any:
    """Its text, or its arguments: as msgpack, these are no text."""
    from ..peers import values

    body = info.body or b""
    text = output.text_of(body)
    if text.encode() == body and text.isprintable():
        return text
    try:
        return output.jsonable(values.unpack(body))
    except ProtocolError:
        return text


def _upcoming(info: ScheduleInfo) -> list[str | None]:
    from ..broker.cron import Calendar
    from ..broker.schedules import Timing

    if info.next_ms is None:
        return []
    calendar, found = Calendar(), [info.next_ms]
    timing = Timing(info.cron, info.tz, info.every_ms or 0, info.next_ms)
    while len(found) < UPCOMING and (next_ms := calendar.next_ms(timing, found[-1])) is not None:
        found.append(next_ms)
    return [_time(info, ms) for ms in found]
