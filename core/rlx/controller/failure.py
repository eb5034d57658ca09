"""What ends a run early, wherever it was noticed: a handler, a background task, a thread, or the run loop itself.

The first failure counts. Work under `guard` is cancelled as soon as there is one, so no wait outlives a run that has
failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


class Failure:
    """The run's first error, and the tasks whose errors are the run's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._happened = asyncio.Event()
        self._error: BaseException | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def error(self) -> BaseException | None:
        return self._error

    def fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            self._happened.set()

    def fail_threadsafe(self, error: BaseException) -> None:
        self._loop.call_soon_threadsafe(self.fail, error)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """A task whose error fails the run."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def guard(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, or the run's failure, whichever comes first."""
        task = self._loop.create_task(work)
        alarm = self._loop.create_task(self._happened.wait())
        try:
            await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            alarm.cancel()
        if self._error is None:
            return await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise self._error

    async def cancel_all(self) -> None:
        tasks = [task for task in self._tasks if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All results, in order. The first error cancels the rest and is raised when they have ended."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
