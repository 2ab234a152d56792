"""Refusals of the daemon in the words of Python.

The wire has milliseconds, under the name of the argument and `_ms`: `delay_ms` is the `delay` of a user, who gave a
duration. All other names are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..peers.errors import InvalidArgument, PenstockError
from ..peers.units import duration_text

OF_TIME = "_ms"


def in_words_of_python(error: PenstockError, args: Mapping[str, Any]) -> PenstockError:
    """The refusal of a request that had these arguments."""
    if type(error) is not InvalidArgument:
        return error
    message, hint = error.message, error.hint
    for name in (*args, *(args.get("options") or ())):
        if name.endswith(OF_TIME):
            if re.search(rf"\b{name} is ", message):
                message, hint = _durations(message), _durations(hint)
            message, hint = (re.sub(rf"\b{name}\b", name.removesuffix(OF_TIME), text) for text in (message, hint))
    return InvalidArgument(message, re.sub(r"\bnil\b", "None", hint))


def _durations(text: str) -> str:
    """Its numbers are milliseconds."""
    return re.sub(r"\b\d+\b", lambda number: duration_text(int(number[0])), text).replace("an integer", "a duration")
