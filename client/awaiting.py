"""What is awaited: methods of what waits in its thread, made into methods to await.

Such a method of the one that waits (`Client`, `Job` ...) does something at once, or is `return self._run(steps)`. Here
`_run` gives a coroutine instead. So the very same function serves both, and `AsyncClient` is a list of its methods.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from functools import wraps
from types import CoroutineType, TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from ..peers.errors import PenstockError
from .async_connection import AsyncConnection
from .channel import Consistency
from .closing import raise_or_log
from .steps import Steps

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class Awaiting:
    """Its methods give coroutines. See the top of this file."""

    __slots__ = ()
    _connection: AsyncConnection

    def _run(self, steps: Steps[T], consistency: Consistency = "primary") -> Coroutine[Any, Any, T]:
        return self._connection.reader(consistency).run(steps)


@overload
def awaited(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]: ...
@overload
def awaited(
    method: Callable[Concatenate[Any, P], object], result: type[T]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]: ...
def awaited(method: Callable[..., Any], result: Any = None) -> Any:
    """The method, to be awaited. `result`: of which type that is then, where it is another one."""

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = method(self, *args, **kwargs)
        return await given if type(given) is CoroutineType else given

    return own(method, call, result)


def opened(method: Callable[Concatenate[Any, P], object], result: type[T]) -> Callable[Concatenate[Any, P], Opening[T]]:
    """The method, whose result is to be closed or iterated: `await` it, or enter it with `async with`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return Opening(lambda: method(self, *args, **kwargs))

    opening: Callable[Concatenate[Any, P], Opening[T]] = own(method, call, result)
    return opening


def own(method: Callable[..., Any], call: Any, result: Any) -> Any:
    """`call`, which is made of `method`: with its name (that of the class begins with Async), its parameters and its
    docstring, and what it gives."""
    wraps(method)(call)
    call.__qualname__ = f"Async{method.__qualname__}"
    if result is not None:
        call.__annotations__ = {**method.__annotations__, "return": result}
    return call


class Opening(Generic[T]):
    """Something that is being opened: `thing = await opening`, or `async with opening as thing`, which closes it at the
    end. A stream may also be read at once: `async for each in opening`."""

    def __init__(self, open: Callable[[], Any]) -> None:
        self._open = open
        self._thing: Any = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begin().__await__()

    async def _begin(self) -> T:
        given = self._open()
        thing: T = await given if type(given) is CoroutineType else given
        return thing

    async def __aenter__(self) -> T:
        self._thing = await (await self._begin()).__aenter__()  # type: ignore[attr-defined]  # of those that have it
        thing: T = self._thing
        return thing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._thing.__aexit__(kind, error, trace)

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for each in await self._begin():  # type: ignore[attr-defined]  # of those that have it
            yield each


class AsyncClosing:
    """Is closed when its `async with` ends."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        this: Any = self
        try:
            await this.close()
        except PenstockError as fault:
            raise_or_log(fault, error, this._name())


def like(method: Callable[..., Any]) -> Callable[[F], F]:
    """A method of its own code, with the docstring of this one."""

    def documented(own: F) -> F:
        own.__doc__ = method.__doc__
        return own

    return documented
