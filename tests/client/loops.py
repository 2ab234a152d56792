"""Running a coroutine under asyncio and uvloop, with the proof that nothing is left of it, and what several tests do
in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import uvloop

import penstock
from penstock import AsyncClient, AsyncMessage
from penstock.peers import values

LIMIT_S = 20.0
WHOLE_S = 60.0  # a test
FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]
Scene: TypeAlias = Callable[[AsyncClient, str], Coroutine[Any, Any, None]]
Play: TypeAlias = Callable[[Scene], None]


def run_in(name: str, main: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop of its own, in debug mode. No task may be left, and the loop may have nothing to complain of."""
    complaints: list[dict[str, Any]] = []

    async def whole() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(WHOLE_S):
            await main
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(debug=True, loop_factory=FACTORIES[name]) as runner:
        runner.run(whole())
    assert complaints == []


@asynccontextmanager
async def worker(client: AsyncClient, queue: str) -> AsyncIterator[None]:
    """A task that squares numbers, and fails with what is none."""

    async def work() -> None:
        async with client.consumer(queue, prefetch=0) as consumer:
            async for message in consumer:
                value = values.unpack(message.body)
                if isinstance(value, int):
                    await message.complete(value**2)
                else:
                    await message.reject(error={"type": "TypeError", "message": "no number"})

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settle_down(ready: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(LIMIT_S):
        while not await ready():
            await asyncio.sleep(0.005)


async def take(consumer: penstock.AsyncConsumer, number: int) -> list[AsyncMessage]:
    messages: list[AsyncMessage] = []
    while len(messages) < number:
        some = await consumer.receive_many(number - len(messages), timeout=LIMIT_S)
        assert some, f"{len(messages)} of {number} came"
        messages += some
    return messages
