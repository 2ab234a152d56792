"""How a command ends: one table from errors to exit codes, and how an error is told."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import click

from ..peers import errors
from ..peers.errors import PenstockError

OK: Final = 0
FAILED: Final = 1  # the job or the check failed
USAGE: Final = 2
NO_PRIMARY: Final = 5
SIGNALLED: Final = 128  # and the number of the signal, as shells count it
INTERRUPTED: Final = SIGNALLED + signal.SIGINT

EXIT_CODES: Final[dict[type[Exception], int]] = {
    errors.JobFailed: FAILED,
    errors.JobCancelled: FAILED,
    errors.InvalidArgument: USAGE,
    errors.NotFound: 3,
    errors.Unauthenticated: 4,
    errors.PermissionDenied: 4,
    errors.NotPrimary: NO_PRIMARY,
    errors.NoQuorum: NO_PRIMARY,
    errors.Closed: NO_PRIMARY,
    errors.Timeout: 6,
    errors.AlreadyExists: 7,
    errors.QueueFull: 7,
    errors.TooLarge: 7,
    errors.StorageFull: 7,
    errors.LeaseLost: 7,
    errors.SessionExpired: 7,
}  # every other error: FAILED


class ReaderGone(Exception):
    """Nobody reads what we print any more. By this name, since click makes an exit code 1 of a BrokenPipeError."""


class Refused(PenstockError):
    """The command itself refuses: what is asked for makes no sense here."""


def exit_code(error: Exception) -> int:
    """The exit code of `error`: that of the nearest of its classes in the table."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), FAILED)


def stop_by_signal(stop: Callable[[], None]) -> list[int]:
    """Have the first SIGINT or SIGTERM call `stop`, and the second one end us as ever. The list fills with what
    came."""
    came: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler)
        stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, hear)
    return came


def tell(error: Exception, as_json: bool) -> None:
    """Print `error` on stderr: as `error:` and `hint:` lines, or as one JSON object, with a failed job's traceback."""
    body = _body(error)
    if as_json:
        click.echo(json.dumps({"error": body}), err=True)
        return
    if body.get("traceback"):
        click.echo(body["traceback"].rstrip(), err=True)
    click.echo(f"error: {body['message']}", err=True)
    if body["hint"]:
        click.echo(f"hint: {body['hint']}", err=True)


def _body(error: Exception) -> dict[str, Any]:
    body: dict[str, Any] = {"code": type(error).__name__, "message": str(error), "hint": "", "retryable": False}
    if isinstance(error, PenstockError):
        body |= {"code": error.code, "message": error.message, "hint": error.hint, "retryable": error.retryable}
    elif isinstance(error, OSError) and error.strerror:
        body["message"] = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if isinstance(error, errors.JobFailed):
        body |= {"traceback": error.traceback, "rank": error.rank}
    return body
