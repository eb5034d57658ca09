"""The requests of one engine: those that vLLM has, and those that wait for a place in it.

Rules:

* vLLM gets about as many requests as it can run at once. The others wait here, in order, and cost a weight update
  nothing.
* The prefix-cache salt of a request is the version of the weights that it starts with, so that cached prompt blocks
  never cross versions. A request that vLLM has accepted may still wait inside it, for memory or for its prefill: those
  without a token when weights change start again with the new weights.
* A request that has a token continues with the new weights. Each of its tokens has a version.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.v1.engine.exceptions import EngineDeadError

from rlx.errors import BadRowError, ProcessDied

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

SURPLUS = 8
"""One request for each 8 places waits inside vLLM, so that a place which falls free is taken in the same moment."""


class PendingRequests:
    """Requests that were submitted together."""

    def __init__(self, outputs: Sequence[asyncio.Task[RequestOutput]]) -> None:
        self._outputs = outputs

    async def results(self) -> list[RequestOutput]:
        """Wait for the final output of each request, in order. Cancelling the wait aborts all of them."""
        try:
            return await asyncio.gather(*self._outputs)
        finally:
            left = [output for output in self._outputs if not output.done()]
            for output in left:
                output.cancel()
            await asyncio.gather(*left, return_exceptions=True)


class Request:
    """One request. Its collector is None until vLLM has it."""

    def __init__(self, prompt: Sequence[int], params: SamplingParams) -> None:
        self.prompt = prompt
        self.params = params
        self.collector: RequestOutputCollector | None = None
        self.starts_again = False


class Requests:
    """The requests of `llm`, which has `places` to run them in."""

    def __init__(
        self,
        llm: AsyncLLM,
        name: str,
        *,
        places: int,
        death_error: Callable[[], ProcessDied],
        changed: Callable[[], None],
    ) -> None:
        """`changed()` is called when a request enters or leaves vLLM."""
        self._llm = llm
        self._name = name
        self._death_error = death_error
        self._changed = changed
        self._ids = itertools.count()
        self._capacity = places + places // SURPLUS
        self._places = asyncio.Semaphore(self._capacity)
        self._queued = 0
        self._unfinished: set[asyncio.Task[RequestOutput]] = set()
        self._inside: set[Request] = set()
        self.entry = asyncio.Lock()
        """Held while a request is handed to vLLM, and while weights change."""
        self.salt = ""
        """Cache salt of the requests that vLLM gets from now on."""

    @property
    def inside(self) -> int:
        """Number of requests in vLLM."""
        return len(self._inside)

    @property
    def unfinished(self) -> int:
        """Number of requests in vLLM or waiting."""
        return len(self._unfinished)

    @property
    def room(self) -> int:
        """Number of requests that vLLM can take at once."""
        return max(0, self._capacity - self._queued)

    def queue(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> PendingRequests:
        """Add requests that enter vLLM, in order, as places fall free."""
        pending = [self._start(self._in_turn(Request(prompt, params))) for prompt in prompts]
        self._queued += len(pending)
        for task in pending:
            task.add_done_callback(self._leave_queue)
        return PendingRequests(pending)

    async def enter(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> PendingRequests:
        """Hand requests to vLLM at once, whatever it has. Returns when it has accepted all of them, in order."""
        pending: list[asyncio.Task[RequestOutput]] = []
        with ExitStack() as on_failure:
            for prompt in prompts:
                request = Request(prompt, params)
                await self._hand_over(request)
                task = self._start(self._output(request))
                on_failure.callback(task.cancel)
                pending.append(task)
            on_failure.pop_all()
        return PendingRequests(pending)

    async def start_again(self) -> None:
        """Abort the requests without a token, which then enter again. `entry` must be held, and vLLM paused."""
        states = self._llm.output_processor.request_states
        again = []
        for request in self._inside:
            assert request.collector is not None
            state = states.get(request.collector.request_id)
            # vLLM's name for it: no output of the request has arrived.
            if state is not None and state.is_prefilling:
                request.starts_again = True
                again.append(request.collector.request_id)
        await self._llm.abort(again, internal=True)

    def _start(self, output: Coroutine[Any, Any, RequestOutput]) -> asyncio.Task[RequestOutput]:
        task = asyncio.create_task(output)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return task

    def _leave_queue(self, _: asyncio.Task[RequestOutput]) -> None:
        self._queued -= 1
        self._changed()

    async def _in_turn(self, request: Request) -> RequestOutput:
        async with self._places:
            await self._hand_over(request)
            return await self._output(request)

    async def _hand_over(self, request: Request) -> None:
        async with self.entry:
            inputs = tokens_input(list(request.prompt), cache_salt=self.salt)
            try:
                request.collector = await self._llm.add_request(str(next(self._ids)), inputs, request.params)
            except EngineDeadError:
                raise self._death_error() from None
            except (VLLMClientError, ValueError) as error:
                raise BadRowError(
                    f"the engine of {self._name} refuses a prompt of {len(request.prompt)} tokens: {error}",
                    reason="engine",
                ) from error
            self._inside.add(request)
        self._changed()

    async def _output(self, request: Request) -> RequestOutput:
        """Wait for the output of a request that is in vLLM. Cancelling the wait aborts it."""
        assert request.collector is not None
        try:
            output = await request.collector.get()
            while request.starts_again:
                request.starts_again = False
                await self._hand_over(request)
                output = await request.collector.get()
        except EngineDeadError:
            raise self._death_error() from None
        except asyncio.CancelledError:
            self._remove(request)
            await self._llm.abort([request.collector.request_id], internal=True)
            raise
        finally:
            self._remove(request)
        return output

    def _remove(self, request: Request) -> None:
        self._inside.discard(request)
        self._changed()
