"""Running a coroutine under asyncio and uvloop, and the proof that nothing is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import uvloop

LIMIT_S = 60.0
FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

T = TypeVar("T")
Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


def run_in(name: str, main: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own, in debug mode. No task may be left, and the loop may have nothing to complain of."""
    complaints: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(LIMIT_S):
            await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(debug=True, loop_factory=FACTORIES[name]) as runner:
        runner.run(whole())
    assert complaints == []
