"""The failure of a run, noticed by a message handler, a background task, a thread, or the run itself.

Rules:

* The first failure counts; later ones are ignored.
* Work under `uncancelled` is finished even then: a step that the policy trains is trained, whether or not anyone waits.
* Work under `guard` is cancelled as soon as there is a failure, so no wait outlives a run that has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import TypeVar

T = TypeVar("T")


class Failure:
    """The first error of a run, and the background tasks whose errors end the run."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._happened = asyncio.Event()
        self._error: BaseException | None = None
        self._tasks: set[asyncio.Task[object]] = set()
        self._uncancelled: set[asyncio.Task[object]] = set()
        self._lasting: set[asyncio.Task[object]] = set()

    @property
    def error(self) -> BaseException | None:
        return self._error

    def fail(self, error: BaseException) -> None:
        """End the run with `error`, unless it has failed already."""
        if self._error is None:
            self._error = error
            self._happened.set()

    def fail_threadsafe(self, error: BaseException) -> None:
        """Call `fail` from another thread."""
        self._loop.call_soon_threadsafe(self.fail, error)

    def spawn(self, work: Coroutine[object, object, T], name: str, *, lasting: bool = False) -> asyncio.Task[T]:
        """Start a background task; if it raises, the run fails.

        `lasting`: the task goes on if the run goes back to a checkpoint (`cancel_training`).
        """
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        if lasting:
            self._lasting.add(task)
        task.add_done_callback(self._done)
        return task

    async def uncancelled(self, work: Coroutine[object, object, T], name: str) -> T:
        """Return the result of `work`. It goes on if the run fails meanwhile: see `settle`."""
        task = self._loop.create_task(work, name=name)
        self._uncancelled.add(task)
        task.add_done_callback(self._uncancelled.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the caller may have gone
        return await asyncio.shield(task)

    async def settle(self, seconds: float) -> bool:
        """Wait for work under `uncancelled` that was under way when the run failed. Returns whether it has ended."""
        if not self._uncancelled:
            return True
        _, left = await asyncio.wait(set(self._uncancelled), timeout=seconds)
        return not left

    async def guard(self, work: Coroutine[object, object, T]) -> T:
        """Return the result of `work`, or cancel it and raise the run's failure if that comes first."""
        task = self._loop.create_task(work)
        failure = self._loop.create_task(self._happened.wait())
        try:
            await asyncio.wait({task, failure}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            failure.cancel()
        if self._error is None:
            return await task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise self._error

    async def cancel_training(self) -> None:
        """Cancel all background tasks but the lasting ones, and work under `uncancelled`; wait for them to end."""
        await self._cancel((self._tasks - self._lasting) | self._uncancelled)

    async def cancel_all(self) -> None:
        """Cancel all background tasks and wait for them to end."""
        await self._cancel(self._tasks | self._uncancelled)

    async def _cancel(self, chosen: set[asyncio.Task[object]]) -> None:
        tasks = [task for task in chosen if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._lasting.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)


async def together(coroutines: Iterable[Coroutine[object, object, T]]) -> list[T]:
    """Run all coroutines concurrently and return their results in order.

    The first error cancels the others, and is raised once they have ended.
    """
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
