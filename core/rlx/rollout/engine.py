"""One vLLM engine (AsyncLLM): samples and scores token sequences, and receives new weights in between.

Rules:

* The logprob of a sampled token belongs to the distribution that it was drawn from: natural log, temperature applied.
* Scores are log-probabilities of the model itself: temperature 1, no filtering, never read from a cache.
* Prefix cache entries never cross weight versions: the cache salt of a request is the version that it starts with.
* The engine's own random generator is seeded, never a single request: vLLM's CPU engine crashes on per-request seeds
  when it splits a prefill.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import structs
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.exceptions import VLLMClientError
from vllm.inputs.engine import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from rlx.episodes import VersionSpan
from rlx.errors import BadRowError, ProcessDied, RlxError, RunError, SyncError
from rlx.logs import LogPart
from rlx.rollout.completion import FINISH_REASONS, Completion
from rlx.sync.buckets import total_bytes
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.messages import InitTransfer, ReceiveWeights, WeightsReceived

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.output_processor import RequestOutputCollector

UNSYNCED = -1
"""Version of the weights that the engine loads at its start, from the model's folder."""

_TOKENS_ONLY: Mapping[str, object] = {
    "output_kind": RequestOutputKind.FINAL_ONLY,
    "detokenize": False,
    "flat_logprobs": True,
}
"""Sampling parameters of every request: token ids without text, delivered once at the end."""

ABANDON_SECONDS = 30.0
"""How long the workers may take to give up an update that failed."""

T = TypeVar("T")


class PendingRequests:
    """Requests that were submitted together and are in the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._collectors: list[RequestOutputCollector] = []

    def add(self, collector: RequestOutputCollector) -> None:
        """Add a request."""
        self._collectors.append(collector)

    async def results(self) -> list[RequestOutput]:
        """Wait for the final output of each request, in order. Cancelling the wait aborts all of them."""
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(self.abort)
            try:
                outputs = [await collector.get() for collector in self._collectors]
            except EngineDeadError:
                on_failure.pop_all()
                raise self._engine.death_error() from None
            on_failure.pop_all()
        self._engine.requests_done(len(self._collectors))
        return outputs

    async def abort(self) -> None:
        """Abort all requests, finished or not."""
        self._engine.requests_done(len(self._collectors))
        await self._engine.abort([collector.request_id for collector in self._collectors])


class Engine:
    """A vLLM engine in the running event loop. `Engine.start` makes one."""

    def __init__(self, llm: AsyncLLM, name: str, log: LogPart | None = None) -> None:
        self._llm = llm
        self._name = name
        self._log = log
        self._ids = itertools.count()
        self._version = UNSYNCED
        self._sync_bytes = 0
        self._running = 0
        self._busy_since = 0.0
        self._busy_seconds = 0.0
        self.tokens = 0
        """Tokens sampled since the start."""
        self.busy_changed = asyncio.Event()
        """Set when the engine becomes busy, and when it becomes idle."""

    @classmethod
    async def start(cls, args: Mapping[str, object], name: str, log: LogPart | None = None) -> Engine:
        """Start an engine with vLLM's arguments (see rlx.rollout.engine_arguments). Returns when it can sample.

        log: the output of this process and of vLLM's, which has the cause if the engine dies.
        """
        try:
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args))
            await llm.update_weight_version(str(UNSYNCED))
        except Exception as error:  # the boundary to vLLM, whose errors have no common base
            # vLLM's error for a core that fails is "See root cause above".
            cause = (log.first_exception() if log is not None else "") or str(error)
            raise RunError(f"vLLM engine of {name} did not start: {cause}") from error
        return cls(llm, name, log)

    @property
    def version(self) -> int:
        """Version of the weights that the engine samples with."""
        return self._version

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its completion together."""
        return int(self._llm.model_config.max_model_len)

    @property
    def workers(self) -> int:
        """Number of worker processes that take part in a weight transfer."""
        return int(self._llm.vllm_config.parallel_config.world_size)

    @property
    def busy(self) -> bool:
        """Whether the engine has requests."""
        return self._running > 0

    @property
    def busy_seconds(self) -> float:
        """Seconds since the start with at least one request in the engine."""
        return self._busy_seconds + (time.monotonic() - self._busy_since if self._running else 0.0)

    # --- sampling -----------------------------------------------------------------------------------------------

    async def submit(
        self, prompt: Sequence[int], *, samples: int, max_tokens: int, temperature: float
    ) -> PendingRequests:
        """Request `samples` completions of a prompt. Returns when the engine has accepted all requests, in order."""
        # Not n=samples: it isn't faster, and vLLM rejects it at temperature 0.
        params = SamplingParams(max_tokens=max_tokens, temperature=temperature, logprobs=0, **_TOKENS_ONLY)
        return await self._add([prompt] * samples, params)

    async def collect(self, pending: PendingRequests) -> list[Completion]:
        """Wait until all submitted requests have finished, and return their completions."""
        outputs: list[CompletionOutput] = [result.outputs[0] for result in await pending.results()]
        unusable = {output.finish_reason for output in outputs} - FINISH_REASONS
        if unusable:
            ended = ", ".join(map(repr, unusable))
            raise BadRowError(f"the engine of {self._name} ended a completion with {ended}", reason="engine")
        self.tokens += sum(len(output.token_ids) for output in outputs)
        return [
            Completion(
                tokens=list(output.token_ids),
                logprobs=list(output.logprobs.logprobs),
                versions=[VersionSpan(int(span.version), span.end - span.start) for span in output.weight_versions],
                finish_reason=output.finish_reason,
            )
            for output in outputs
        ]

    async def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Return log-probabilities at temperature 1 of `sequences[i][1:]`, each given the tokens before it."""
        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, **_TOKENS_ONLY)
        pending = await self._add(sequences, params)
        return [list(output.prompt_logprobs.logprobs) for output in await pending.results()]

    @asynccontextmanager
    async def barrier(self, seed: int) -> AsyncIterator[None]:
        """Hold the requests that are submitted inside, in their order, and schedule them together at the end.

        The result depends only on `seed`, the weights and the requests: tokens and logprobs repeat bit for bit.
        Raises RunError if the engine isn't idle.
        """
        if self._running:
            raise RunError(
                f"{self._name} cannot start a repeatable batch: {self._running} requests are still in its engine"
            )
        core = self._llm.engine_core
        await core.pause_scheduler_async(mode="keep", clear_cache=True)
        try:
            await self._llm.collective_rpc("rlx_seed", args=(seed,))
            yield
        finally:
            # Requests and calls reach the engine through one queue, so all submitted requests have arrived by now.
            await core.resume_scheduler_async()

    async def abort(self, requests: list[str]) -> None:
        """Abort requests by their internal ids in vLLM."""
        await self._llm.abort(requests, internal=True)

    def requests_done(self, count: int) -> None:
        """Record that `count` requests are no longer in the engine."""
        self._running -= count
        if count and not self._running:
            self._busy_seconds += time.monotonic() - self._busy_since
            self.busy_changed.set()

    async def _add(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> PendingRequests:
        pending = PendingRequests(self)
        async with AsyncExitStack() as on_failure:
            on_failure.push_async_callback(pending.abort)
            for prompt in prompts:
                inputs = tokens_input(list(prompt), cache_salt=str(self._version))
                try:
                    pending.add(await self._llm.add_request(str(next(self._ids)), inputs, params))
                except EngineDeadError:
                    raise self.death_error() from None
                except (VLLMClientError, ValueError) as error:
                    raise BadRowError(
                        f"the engine of {self._name} refuses a prompt of {len(prompt)} tokens: {error}", reason="engine"
                    ) from error
                if not self._running:
                    self._busy_since = time.monotonic()
                    self.busy_changed.set()
                self._running += 1
            on_failure.pop_all()
        return pending

    async def clear_cache(self) -> None:
        """Forget all prompts. The engine must be idle."""
        await self._llm.reset_prefix_cache()

    # --- weights ------------------------------------------------------------------------------------------------

    async def init_transfer(self, message: InitTransfer) -> None:
        """Join the transfer group with every worker process. Raises SyncError."""
        info = structs.asdict(message) | {"manifest": msgspec.msgpack.encode(message.buckets)}
        del info["buckets"]
        self._sync_bytes = total_bytes(message.buckets)
        joining = self._llm.init_weight_transfer_engine(WeightTransferInitRequest(info))
        await self._phase("joining the transfer group", joining, message.timeout_seconds)

    async def receive(self, message: ReceiveWeights) -> WeightsReceived:
        """Pause sampling, receive new weights, resume with them, and score the probe sequences. Raises SyncError.

        Requests stay in the engine: their next tokens are sampled with the new weights.
        """
        limit = message.timeout_seconds
        core = self._llm.engine_core
        update = WeightTransferUpdateRequest({"version": message.version})
        paused = time.monotonic()
        await self._phase("pausing", core.pause_scheduler_async(mode="keep", clear_cache=False), limit)
        async with AsyncExitStack() as on_failure:
            # It stays paused: its weights are neither the old nor the new ones until they are sent again.
            on_failure.push_async_callback(self._abandon_update)
            await self._phase("starting the update", self._llm.start_weight_update(), limit)
            await self._phase("receiving weights", self._llm.update_weights(update), limit)
            await self._phase("finishing the update", self._llm.finish_weight_update(str(message.version)), limit)
            on_failure.pop_all()
        self._version = message.version
        await self._phase("resuming", core.resume_scheduler_async(), limit)
        resumed = time.monotonic()
        return WeightsReceived(
            version=message.version,
            paused_seconds=resumed - paused,
            bytes=self._sync_bytes,
            logprobs=pack_logprobs(await self._phase("scoring the probe", self.score(message.probe), limit)),
        )

    async def _abandon_update(self) -> None:
        # The error that comes first is the one to report. If this fails, too, the next update can't start.
        with contextlib.suppress(RlxError):
            if not self.dead:
                abandoning = self._llm.collective_rpc("rlx_abandon_update")
                await self._phase("abandoning the update", abandoning, ABANDON_SECONDS)

    async def _phase(self, what: str, action: Awaitable[T], seconds: float) -> T:
        try:
            return await asyncio.wait_for(action, seconds)
        except TimeoutError as error:
            raise SyncError(f"{self._name}: {what} took longer than {seconds:g} s") from error
        except EngineDeadError:
            raise self.death_error() from None
        except ProcessDied:
            raise
        except Exception as error:  # the boundary to vLLM: a worker's exception arrives as a bare Exception(text)
            raise SyncError(f"{self._name}: {what} failed: {error}") from error

    # --- end ------------------------------------------------------------------------------------------------

    @property
    def dead(self) -> bool:
        """Whether the engine's processes have died."""
        return bool(self._llm.errored)

    def death_error(self) -> ProcessDied:
        """Return the error to raise if the engine's processes have died, with the exception that ended them."""
        cause = self._log.first_exception() if self._log is not None else ""
        return ProcessDied(": ".join(filter(None, [f"vLLM engine of {self._name} died", cause])))

    def close(self) -> None:
        """End the engine's processes. The engine can't be used afterwards."""
        self._llm.shutdown(timeout=5)
        # Its destructor shuts down again, which must not happen as late as the interpreter's own shutdown.
        del self._llm
