"""One vLLM engine (AsyncLLM), as a replica uses it: tokens in, tokens with logprobs and weight versions out.

The rules of this part:

* A sampler logprob is that of the distribution that the token was drawn from: natural log, temperature applied.
* A score is that of the model itself: temperature 1, nothing filtered, never read from a cache.
* Prefix cache entries never cross weight versions: the cache salt of a request is the version that it starts with.
* Requests are seeded through the engine's own generator, never one by one: vLLM's CPU engine dies of per-request seeds
  when it splits a prefill.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

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
from rlx.errors import ProcessDied, RunError, SyncError
from rlx.rollout.completion import ENDINGS, Completion
from rlx.sync.buckets import total_bytes
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.messages import InitTransfer, ReceiveWeights, WeightsReceived

UNSYNCED = -1
"""The weight version of what the engine loaded from the model's folder."""

T = TypeVar("T")


class Pending:
    """Requests that are in the engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._collectors: list[Any] = []

    def add(self, collector: Any) -> None:
        self._collectors.append(collector)

    async def results(self) -> list[Any]:
        """The final RequestOutput of each, in order. Cancelling the wait takes them all out of the engine."""
        try:
            outputs = [await collector.get() for collector in self._collectors]
        except EngineDeadError:
            raise self._engine.death() from None
        except BaseException:
            await self.withdraw()
            raise
        self._engine.left(len(self._collectors))
        return outputs

    async def withdraw(self) -> None:
        """Take them out of the engine, wherever they stand."""
        self._engine.left(len(self._collectors))
        await self._engine.abort([collector.request_id for collector in self._collectors])


class Engine:
    """Made by `Engine.start`; one event loop, one engine."""

    def __init__(self, llm: AsyncLLM, name: str) -> None:
        self._llm = llm
        self._name = name
        self._ids = itertools.count()
        self._version = UNSYNCED
        self._sync_bytes = 0
        self._inside = 0
        self._busy_since = 0.0
        self._busy_seconds = 0.0
        self.tokens = 0
        """Sampled since the start."""
        self.turned = asyncio.Event()
        """Set when it becomes busy, and when it becomes idle."""

    @classmethod
    async def start(cls, args: dict[str, Any], name: str) -> Engine:
        """`args`: vLLM engine arguments (see rlx.rollout.engine_arguments). Returns when the engine can generate."""
        try:
            llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**args))
            await llm.update_weight_version(str(UNSYNCED))
        except Exception as error:  # vLLM's own errors have no common base
            raise RunError(f"vLLM engine of {name} did not start: {error}") from error
        return cls(llm, name)

    @property
    def version(self) -> int:
        """Of the weights that the next token is sampled with."""
        return self._version

    @property
    def workers(self) -> int:
        """Worker processes that take part in a weight transfer."""
        return int(self._llm.vllm_config.parallel_config.world_size)

    @property
    def max_length(self) -> int:
        """Prompt and completion together, in tokens."""
        return int(self._llm.vllm_config.model_config.max_model_len)

    @property
    def busy_seconds(self) -> float:
        """Time since the start in which something was in the engine."""
        return self._busy_seconds + (time.monotonic() - self._busy_since if self._inside else 0.0)

    # --- sampling -----------------------------------------------------------------------------------------------

    async def submit(self, prompt: Sequence[int], *, samples: int, max_tokens: int, temperature: float) -> Pending:
        """Put `samples` completions of a prompt into the engine; returns when they are on their way, in order."""
        # Not n=samples: that is no faster, and vLLM refuses it at temperature 0.
        params = SamplingParams(max_tokens=max_tokens, temperature=temperature, logprobs=0, **_PLAIN)
        return await self._add([prompt] * samples, params)

    async def collect(self, pending: Pending) -> list[Completion]:
        """The completions of what was submitted, when all of them have ended."""
        outputs = [result.outputs[0] for result in await pending.results()]
        broken = {output.finish_reason for output in outputs} - ENDINGS
        if broken:
            raise RunError(f"the engine of {self._name} ended a completion with {', '.join(map(repr, broken))}")
        sampled = [_sampled(output) for output in outputs]
        self.tokens += sum(len(one.tokens) for one in sampled)
        return sampled

    async def generate(
        self, prompt: Sequence[int], *, samples: int, max_tokens: int, temperature: float
    ) -> list[Completion]:
        """`samples` completions of one prompt."""
        return await self.collect(
            await self.submit(prompt, samples=samples, max_tokens=max_tokens, temperature=temperature)
        )

    async def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probabilities at temperature 1 of `sequences[i][1:]`, each given what precedes it."""
        params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, **_PLAIN)
        pending = await self._add(sequences, params)
        return [list(output.prompt_logprobs.logprobs) for output in await pending.results()]

    @asynccontextmanager
    async def barrier(self, seed: int) -> AsyncIterator[None]:
        """What is submitted inside enters the engine in that order, and none of it is scheduled before the end.

        The engine starts from nothing but `seed` and the weights: same requests, same tokens and logprobs, bit for bit.
        """
        if self._inside:
            raise RunError(
                f"{self._name} was to start a repeatable batch with {self._inside} requests still in its engine"
            )
        core = self._llm.engine_core
        await core.pause_scheduler_async(mode="keep", clear_cache=True)
        try:
            await self._llm.collective_rpc("rlx_seed", args=(seed,))
            yield
        finally:
            # Requests and calls reach the engine through one queue, so all that was submitted is there by now.
            await core.resume_scheduler_async()

    async def abort(self, requests: list[str]) -> None:
        """By vLLM's internal ids."""
        await self._llm.abort(requests, internal=True)

    async def _add(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> Pending:
        pending = Pending(self)
        try:
            for prompt in prompts:
                pending.add(await self._add_one(prompt, params))
                self._enter()
        except BaseException:
            await pending.withdraw()
            raise
        return pending

    async def _add_one(self, prompt: Sequence[int], params: SamplingParams) -> Any:
        try:
            inputs = tokens_input(list(prompt), cache_salt=str(self._version))
            return await self._llm.add_request(str(next(self._ids)), inputs, params)
        except EngineDeadError:
            raise self.death() from None
        except (VLLMClientError, ValueError) as error:
            raise RunError(f"the engine of {self._name} refuses a prompt of {len(prompt)} tokens: {error}") from error

    def _enter(self) -> None:
        if not self._inside:
            self._busy_since = time.monotonic()
            self.turned.set()
        self._inside += 1

    def left(self, requests: int) -> None:
        """So many requests are done with."""
        self._inside -= requests
        if requests and not self._inside:
            self._busy_seconds += time.monotonic() - self._busy_since
            self.turned.set()

    # --- weights ------------------------------------------------------------------------------------------------

    async def init_transfer(self, message: InitTransfer) -> None:
        """Join the transfer group with every worker. Raises SyncError."""
        info = structs.asdict(message) | {"manifest": msgspec.msgpack.encode(message.buckets)}
        del info["buckets"]
        self._sync_bytes = total_bytes(message.buckets)
        joining = self._llm.init_weight_transfer_engine(WeightTransferInitRequest(info))
        await self._phase("joining the transfer group", joining, message.timeout_seconds)

    async def receive(self, message: ReceiveWeights) -> WeightsReceived:
        """Take in new weights; what is being generated goes on with them where it stands. Then say what they make of
        the probe. Raises SyncError.
        """
        limit = message.timeout_seconds
        core = self._llm.engine_core
        update = WeightTransferUpdateRequest({"version": message.version})
        paused = time.monotonic()
        await self._phase("pausing", core.pause_scheduler_async(mode="keep", clear_cache=False), limit)
        await self._phase("starting the update", self._llm.start_weight_update(), limit)
        await self._phase("receiving weights", self._llm.update_weights(update), limit)
        await self._phase("finishing the update", self._llm.finish_weight_update(str(message.version)), limit)
        self._version = message.version
        await self._phase("resuming", core.resume_scheduler_async(), limit)
        resumed = time.monotonic()
        return WeightsReceived(
            version=message.version,
            paused_seconds=resumed - paused,
            bytes=self._sync_bytes,
            logprobs=pack_logprobs(await self._phase("scoring the probe", self.score(message.probe), limit)),
        )

    async def _phase(self, what: str, action: Awaitable[T], seconds: float) -> T:
        try:
            return await asyncio.wait_for(action, seconds)
        except TimeoutError as error:
            raise SyncError(f"{self._name}: {what} took longer than {seconds:g} s") from error
        except EngineDeadError:
            raise self.death() from None
        except Exception as error:  # vLLM passes a worker's exception on as bare Exception(text)
            raise SyncError(f"{self._name}: {what} failed: {error}") from error

    # --- its end ------------------------------------------------------------------------------------------------

    @property
    def dead(self) -> bool:
        """Whether its processes are gone, with or without anybody waiting for them."""
        return bool(self._llm.errored)

    def death(self) -> ProcessDied:
        """The error for an engine that is gone."""
        return ProcessDied(f"vLLM engine of {self._name} died")

    def close(self) -> None:
        """End the engine's processes; the last thing that is done with it."""
        self._llm.shutdown(timeout=5)
        # It shuts down once more when it is collected, which must not be as late as the interpreter's own end.
        del self._llm


_PLAIN: dict[str, Any] = {
    "output_kind": RequestOutputKind.FINAL_ONLY,
    "detokenize": False,
    "flat_logprobs": True,
}


def _sampled(output: Any) -> Completion:
    return Completion(
        tokens=list(output.token_ids),
        logprobs=list(output.logprobs.logprobs),
        versions=[VersionSpan(int(span.version), span.end - span.start) for span in output.weight_versions],
        finish_reason=output.finish_reason,
    )
