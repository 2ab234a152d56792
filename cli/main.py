"""The command `penstock`: its verbs, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Final, NoReturn

import click

from ..peers.errors import PenstockError
from .exits import INTERRUPTED, OK, SIGNALLED, USAGE, ReaderGone, exit_code, tell
from .options import Root
from .verbs import Verbs

TERMINATED: Final = SIGNALLED + signal.SIGTERM
BROKEN_PIPE: Final = SIGNALLED + signal.SIGPIPE  # who read our output has gone
VERBS: Final = {  # in the order of use: the module in which each lies, under this name
    "init": "init",
    "serve": "daemon",
    "up": "daemon",
    "status": "daemon",
    "metrics": "metrics",
    "check": "daemon",
    "backup": "daemon",
    "queue": "queues",
    "topic": "topics",
    "group": "groups",
    "push": "messages",
    "pull": "messages",
    "job": "jobs",
    "events": "events",
    "schedule": "schedules",
    "pool": "pools",
    "cluster": "cluster",
    "node": "cluster",
    "demo": "demo",
    "bench": "bench",
    "completion": "completion",
}


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"], "show_default": False})
@click.version_option(package_name="penstock", prog_name="penstock")
def cli() -> None:
    """A durable job queue and topic log that feeds an MPI pool.

    Exit codes: 0 ok, 1 the job or check failed, 2 usage, 3 not found, 4 denied, 5 no primary or no quorum, 6 timeout,
    7 refused (full, exists, lost lease). Every option can be given by a variable: the common ones as PENSTOCK_ENDPOINT
    and so on, the others as PENSTOCK_VERB_OPTION. Errors go to stderr; with --json as
    {"error": {code, message, hint, retryable}}.
    """


cli.commands = Verbs(VERBS)  # type: ignore[assignment]  # nobody adds one


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Errors are told on stderr; nothing that a user can meet shows a traceback."""
    try:
        code = cli.main(arguments, prog_name="penstock", standalone_mode=False, auto_envvar_prefix="PENSTOCK")
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        _tell_usage(error, arguments)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (ReaderGone, BrokenPipeError):
        # The interpreter flushes stdout once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (PenstockError, OSError) as error:
        tell(error, _json_asked(arguments))
        return exit_code(error)
    return code if isinstance(code, int) else OK


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    # Unwind, rather than drop dead: private daemons are stopped and temporary folders removed. Verbs that run for long
    # have handlers of their own.
    ended: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        ended.append(number)
        sys.exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    try:
        code = run(arguments)
    except BaseException as error:
        # Whatever became of it on the way, as in the middle of an import in C: it was the signal that ended us.
        if ended and not isinstance(error, SystemExit):
            sys.exit(TERMINATED)
        raise
    sys.exit(TERMINATED if ended else code)


def _tell_usage(error: click.ClickException, arguments: Sequence[str] | None) -> None:
    path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "penstock"
    tell(UsageError(error.format_message(), f"see {path} --help"), _json_asked(arguments))


class UsageError(PenstockError):
    """The command line itself is wrong."""


def _json_asked(arguments: Sequence[str] | None) -> bool:
    """Is --json asked for? The options may not have been parsed when the error came."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    end = words.index("--") if "--" in words else len(words)
    return "--json" in words[:end] or os.environ.get("PENSTOCK_JSON", "").lower() in (
        "1",
        "true",
        "yes",
        "on",
        "t",
        "y",
    )
