"""One vLLM engine (AsyncLLM): samples and scores token sequences, and receives new weights in between.

Rules:

* The logprob of a sampled token belongs to the distribution that it was drawn from: natural log, temperature applied.
* Scores are log-probabilities of the model itself: temperature 1, no filtering, never read from a cache.
* Prefix cache entries never cross weight versions (requests.py).
* The engine's own random generator is seeded, never a single request: vLLM's CPU engine crashes on per-request seeds
  when it splits a prefill.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import structs
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from rlx.episodes import VersionSpan
from rlx.errors import BadRowError, ProcessDied, RlxError, RunError, SyncError
from rlx.logs import LogPart
from rlx.rollout.completion import FINISH_REASONS, Completion
from rlx.rollout.requests import PendingRequests, Requests
from rlx.sync.buckets import total_bytes
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.messages import InitTransfer, ReceiveWeights, WeightProof, WeightsReceived

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput

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


class Engine:
    """A vLLM engine in the running event loop. `Engine.start` makes one."""

    def __init__(self, llm: AsyncLLM, name: str, log: LogPart | None = None) -> None:
        self._llm = llm
        self._name = name
        self._log = log
        places = llm.vllm_config.scheduler_config.max_num_seqs
        self._requests = Requests(
            llm, name, places=places, death_error=self.death_error, changed=self._requests_changed
        )
        self._batching = False
        self._set_version(UNSYNCED)
        self._sync_bytes = 0
        self._was_busy = False
        self._busy_since = 0.0
        self._busy_seconds = 0.0
        self.tokens = 0
        """Tokens sampled since the start."""
        self.busy_changed = asyncio.Event()
        """Set when the engine becomes busy, and when it becomes idle."""
        self.on_room: Callable[[], None] = lambda: None
        """Called when the engine may have room for more requests."""

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
        return self._requests.inside > 0

    @property
    def room(self) -> int:
        """Number of requests that it can begin at once; more are accepted, and wait for their turn."""
        return self._requests.room

    @property
    def busy_seconds(self) -> float:
        """Seconds since the start with at least one request in the engine."""
        return self._busy_seconds + (time.monotonic() - self._busy_since if self._was_busy else 0.0)

    # --- sampling -----------------------------------------------------------------------------------------------

    async def submit(
        self, prompt: Sequence[int], *, samples: int, max_tokens: int, temperature: float
    ) -> PendingRequests:
        """Request `samples` completions of a prompt. They begin in order, as the engine has room.

        Behind a barrier, all of them are in the engine when this returns.
        """
        # Not n=samples: it isn't faster, and vLLM rejects it at temperature 0.
        params = SamplingParams(max_tokens=max_tokens, temperature=temperature, logprobs=0, **_TOKENS_ONLY)
        prompts = [prompt] * samples
        return await self._requests.enter(prompts, params) if self._batching else self._requests.queue(prompts, params)

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
        pending = await self._requests.enter(sequences, params)
        return [list(output.prompt_logprobs.logprobs) for output in await pending.results()]

    @asynccontextmanager
    async def barrier(self, seed: int) -> AsyncIterator[None]:
        """Hold the requests that are submitted inside, in their order, and schedule them together at the end.

        The result depends only on `seed`, the weights and the requests: tokens and logprobs repeat bit for bit.
        Raises RunError if the engine isn't idle.
        """
        if self._requests.unfinished:
            left = f"{self._requests.unfinished} requests are still in its engine"
            raise RunError(f"{self._name} cannot start a repeatable batch: {left}")
        core = self._llm.engine_core
        await core.pause_scheduler_async(mode="keep", clear_cache=True)
        try:
            await self._llm.collective_rpc("rlx_seed", args=(seed,))
            self._batching = True
            yield
        finally:
            self._batching = False
            # Requests and calls reach the engine through one queue, so all submitted requests have arrived by now.
            await core.resume_scheduler_async()

    def _requests_changed(self) -> None:
        """Count the time with requests in vLLM, and report that it may have room for others."""
        busy = self._requests.inside > 0
        if busy != self._was_busy:
            if busy:
                self._busy_since = time.monotonic()
            else:
                self._busy_seconds += time.monotonic() - self._busy_since
            self._was_busy = busy
            self.busy_changed.set()
        if self.room:
            self.on_room()

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

        Requests with a token stay in the engine: their next tokens are sampled with the new weights. The others start
        after the update.
        """
        what = "waiting for requests on their way into the engine"
        await self._phase(what, self._requests.entry.acquire(), message.timeout_seconds)
        try:
            paused_seconds, proofs = await self._update(message)
        finally:
            self._requests.entry.release()
        scoring = self._phase("scoring the probe", self.score(message.probe), message.timeout_seconds)
        return WeightsReceived(
            version=message.version,
            paused_seconds=paused_seconds,
            bytes=self._sync_bytes,
            logprobs=pack_logprobs(await scoring),
            proofs=proofs,
        )

    async def _update(self, message: ReceiveWeights) -> tuple[float, list[WeightProof]]:
        """Receive new weights while the engine is paused. Returns the seconds of the pause, and each worker's proof."""
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
        proofs = await self._phase("comparing weights", self._llm.collective_rpc("rlx_weight_proof"), limit)
        self._set_version(message.version)
        await self._phase("taking back requests without a token", self._requests.start_again(), limit)
        await self._phase("resuming", core.resume_scheduler_async(), limit)
        return time.monotonic() - paused, [msgspec.msgpack.decode(proof, type=WeightProof) for proof in proofs]

    def _set_version(self, version: int) -> None:
        self._version = version
        self._requests.salt = str(version)

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
