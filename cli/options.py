"""What every command takes: --json, --endpoint, --user, --timeout, and the connection they ask for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from ..peers.errors import Closed, InvalidArgument, NoQuorum, Timeout
from ..peers.units import duration_ms, size_bytes
from .exits import ReaderGone
from .output import note

if TYPE_CHECKING:
    from ..client import Client

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:7470"
PATIENCE_S: Final = 5.0  # a person waits: "no daemon" must be told soon


NO_LIMIT: Final = "none"
NAME: Final = re.compile(r"(?<![\w-])([a-z]\w*)( is | are | and |)")


# Functions, not classes, as click's types: click.ParamType is generic in some versions and not in others.
def duration(value: str | float) -> float:
    """Seconds, out of a number of them or a text such as 500ms, 10s, 1h30m."""
    try:
        return duration_ms(value) / 1000
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from error


def size(value: str | int) -> int:
    """Bytes, out of an integer or a text such as 64MiB."""
    try:
        return size_bytes(value)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from error


def count_or_none(value: str | int) -> int | str:
    """A positive integer, or the word `none`: no limit."""
    if value == NO_LIMIT:
        return NO_LIMIT
    if not str(value).isdecimal() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is no count (give a positive integer, or none)")
    return int(value)


def size_or_none(value: str | int) -> int | str:
    return NO_LIMIT if value == NO_LIMIT else size(value)


def duration_or_none(value: str | float) -> float | str:
    return NO_LIMIT if value == NO_LIMIT else duration(value)


@dataclass(frozen=True, slots=True)
class Options:
    json: bool = False
    endpoint: tuple[str, ...] = ()
    user: str | None = None
    timeout: float | None = None  # seconds
    local: bool = False  # of a `Reading` verb

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.endpoint or (DEFAULT_ENDPOINT,)

    @property
    def patience(self) -> float:
        """Seconds to go on trying when the daemon does not answer."""
        return PATIENCE_S if self.timeout is None else self.timeout

    def connect(self, read_only: bool = False) -> Client:
        """A client of the daemon; `read_only`: of any node that answers. Raises Closed, with how to start one, if none
        does, and NoQuorum if none is the primary."""
        from ..client import connect  # numpy and zmq: not for --help and completion

        where = list(self.endpoints)
        try:
            return connect(where, user=self.user, retry_for=self.patience, read_only=read_only)
        except NoQuorum as error:
            hint = "`penstock node list` tells which nodes are down; what only reads takes --local"
            raise NoQuorum(error.message, hint) from error
        except (Timeout, Closed) as error:
            raise Closed(
                f"no daemon answers at {', '.join(where)} ({error.message})",
                "start one with `penstock serve` or `penstock up`, or name another with --endpoint",
            ) from error

    @contextmanager
    def reading(self) -> Iterator[Client]:
        """A client for what only reads: with --local of any node, and how far behind that is is told at the end."""
        with self.connect(read_only=self.local) as client:
            yield client
            if (staleness := client.staleness) is not None:
                note(f"local: as of log entry {staleness.applied}; the primary was heard {staleness.lag_ms} ms before")


def _common() -> list[click.Parameter]:
    return [
        click.Option(["--json"], is_flag=True, envvar="PENSTOCK_JSON", help="Print JSON: one object, or one a line."),
        click.Option(
            ["--endpoint"],
            multiple=True,
            metavar="ENDPOINT",
            envvar="PENSTOCK_ENDPOINT",
            help=f"Where the daemon listens; may be repeated.  [default: {DEFAULT_ENDPOINT}]",
        ),
        click.Option(["--user"], envvar="PENSTOCK_USER", help="Who to be."),
        click.Option(
            ["--timeout"],
            type=duration,
            envvar="PENSTOCK_TIMEOUT",
            help="Give up after this long.  [default: 5s for a daemon that does not answer]",
        ),
    ]


def _take(ctx: click.Context, before: Options) -> Options:
    """Take the common options out of the parameters; one that was not given is as it was `before` the verb."""
    values: dict[str, Any] = {}
    for name in ("json", "endpoint", "user", "timeout"):
        value = ctx.params.pop(name)
        given = ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
        values[name] = value if given else getattr(before, name)
    return replace(before, **values)


class Verb(click.Command):
    """A command with the common options; its function gets them first, by `@click.pass_obj`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common()

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = _take(ctx, ctx.obj or Options())
        try:
            return super().invoke(ctx)
        except InvalidArgument as error:
            raise _in_options(error, self.params) from error


def _in_options(error: InvalidArgument, params: Sequence[click.Parameter]) -> InvalidArgument:
    """The error in the words of the command line: parameters have the names that they have in Python."""
    options = {each.name: max(each.opts, key=len) for each in params if isinstance(each, click.Option)}

    def written(found: re.Match[str]) -> str:
        # A name of one word is a word as well: it means the option where something is said of it.
        name, said = found.groups()
        return options[name] + said if name in options and ("_" in name or said) else found[0]

    return InvalidArgument(*(NAME.sub(written, text) for text in (error.message, error.hint)))


class Reading(Verb):
    """One that changes nothing, and so may ask any node."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        text = "Of the nearest node, primary or not, as far as it knows: also when there is no primary."
        self.params.insert(-len(_common()), click.Option(["--local"], is_flag=True, help=text))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = replace(ctx.obj or Options(), local=ctx.params.pop("local"))
        return super().invoke(ctx)


class Noun(click.Group):
    """A group of verbs."""

    command_class = Verb
    group_class = type

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the source, which is the order of use


class Root(Noun):
    """`penstock` itself: takes the common options before the verb as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += _common()

    def invoke(self, ctx: click.Context) -> Any:
        ctx.obj = _take(ctx, Options())
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGone from error


def complete_names(kind: str | None) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Shell completion of queue or topic names, asked of the daemon; nothing if none answers at once."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from ..client import connect

        endpoint = ctx.params.get("endpoint") or (DEFAULT_ENDPOINT,)
        try:
            with connect(list(endpoint), retry_for=0.5) as client:
                infos = [] if kind == "topic" else [info.name for info in client.list_queues()]
                infos += [] if kind == "queue" else [info.name for info in client.list_topics()]
        except (Timeout, Closed):
            return []  # a completion has no place for an error
        return [name for name in infos if name.startswith(incomplete)]

    return complete


def confirm(question: str, yes: bool) -> None:
    """Ask before something is destroyed. Raises InvalidArgument if nobody is there to answer, Abort if it is a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidArgument(f"{question} Nobody is here to answer.", "say --yes")
    click.confirm(question, abort=True, err=True)
