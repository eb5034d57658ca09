"""One replica: an engine, a reward pool, and the controller's commands.

The rules of this part:

* Commands are answered in their own time: weights are received and tokens scored while groups are sampled.
* What ends the replica is told to the controller as `Failed`, with who answers for it, and then raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from functools import partial
from pathlib import Path

from msgspec import structs

from rlx.boot import Boot
from rlx.config.schema import Config
from rlx.datasets.open import open_dataset
from rlx.errors import ProcessDied, RlxError
from rlx.fingerprint import Fingerprints
from rlx.packers.open import open_packer
from rlx.packers.tokenizer import load_tokenizer
from rlx.plugins.session import Plugins
from rlx.plugins.timings import CallTimings
from rlx.rewards.pool import RewardPool
from rlx.rollout.engine import Engine
from rlx.rollout.engine_arguments import engine_arguments
from rlx.rollout.prompts import Prompts
from rlx.rollout.sampler import Sampler, rows_of
from rlx.script.plugins import open_plugins
from rlx.transport.client import Client
from rlx.transport.messages import (
    Failed,
    GroupDone,
    GroupFailed,
    InitTransfer,
    Leases,
    Message,
    Ok,
    ReceiveWeights,
    RolloutReady,
    Stop,
)

CONNECT_SECONDS = 30.0
STATS_SECONDS = 1.0
DEATH_SECONDS = 0.1


async def run(boot: Boot) -> None:
    """Until Stop. Raises what ended the replica otherwise, after telling the controller."""
    replica = Replica(boot)
    try:
        await replica.live()
    except Exception as error:  # the boundary: whatever ends the replica, the controller is told who answers for it
        await replica.tell(describe(error, boot.name, boot.log))
        raise
    finally:
        await replica.close()


class Replica:
    """Everything of one replica; `live` runs it."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._config = boot.load_config()
        self._client = Client(boot.endpoint, boot.name, boot.attempt, self._handle, on_error=self._refused)
        self._connected = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._closing = contextlib.AsyncExitStack()

    async def live(self) -> None:
        """Start, say so, serve until Stop."""
        ready = await self._start()
        await self._connect()
        start = self._config.run.start_seconds
        await self._client.request(ready, timeout=start, what=f"{self._boot.name} says that it is ready")
        tasks = [asyncio.create_task(self._report()), asyncio.create_task(self._watch())]
        try:
            await self._ended
        finally:
            for task in tasks:
                task.cancel()

    async def tell(self, failure: Failed) -> None:
        """The last words, if the controller can still be reached."""
        with contextlib.suppress(RlxError):
            await self._connect()
            await self._client.notify(failure)

    async def close(self) -> None:
        await self._closing.aclose()
        await self._client.close()

    async def _start(self) -> RolloutReady:
        config = self._config
        plugins = open_plugins(self._boot)
        plugins.hooks.rlx_worker_start(process=self._boot.name, config=config)
        train, evaluation = _open_data(plugins, config)
        probes = train.probes()
        pool = await self._closing.enter_async_context(RewardPool(self._boot, plugins.costs))
        engine = await Engine.start(engine_arguments(config, self._boot.index), self._boot.name)
        self._closing.callback(engine.close)
        self._engine = engine
        self._sampler = Sampler(
            engine,
            pool,
            rows_of(config, train, evaluation),
            send=partial(self._send, plugins.costs),
            scored=plugins.hooks.rlx_group_scored,
            on_failure=self._fail,
        )
        self._closing.push_async_callback(self._sampler.close)
        return RolloutReady(
            data=Fingerprints(train.view.fingerprint(), None if evaluation is None else evaluation.view.fingerprint()),
            workers=engine.workers,
            probe_tokens=probes,
        )

    async def _send(self, costs: CallTimings, group: GroupDone | GroupFailed) -> None:
        await self._client.notify(structs.replace(group, costs=costs.take()))

    async def _connect(self) -> None:
        if not self._connected:
            await self._client.connect(CONNECT_SECONDS)
            self._connected = True

    async def _handle(self, message: Message) -> Message | None:
        match message:
            case Leases():
                await self._sampler.take(message)
            case InitTransfer():
                await self._engine.init_transfer(message)
            case ReceiveWeights():
                return await self._engine.receive(message)
            case Stop():
                self._end()
            case _:
                raise RlxError(f"{self._boot.name} does not know what to do with {type(message).__name__}")
        return Ok()

    async def _report(self) -> None:
        while True:
            await self._client.notify(self._sampler.stats())
            # At once when the engine turns: what the controller adds up between reports rests on the last one.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.turned.wait(), STATS_SECONDS)
            self._engine.turned.clear()

    async def _watch(self) -> None:
        """An engine that died is told of before weights are on their way to it."""
        while not self._engine.dead:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(DEATH_SECONDS)
        self._fail(self._engine.death())

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _refused(self, _peer: str, error: Exception) -> None:
        self._fail(error)


def describe(error: Exception, name: str, log: Path) -> Failed:
    """The message that says why the replica cannot go on."""
    text = str(error) if isinstance(error, RlxError) else f"{type(error).__name__}: {error}"
    owner = getattr(error, "owner", "") or name
    if isinstance(error, ProcessDied):
        owner, text = f"vLLM engine of {name}", f"{text}; its last words are in {log}"
    trace = "".join(traceback.format_exception(error))
    return Failed(text, owner=owner, traceback=trace, died=isinstance(error, ProcessDied))


def _open_data(plugins: Plugins, config: Config) -> tuple[Prompts, Prompts | None]:
    tokenizer = load_tokenizer(config.model)
    packer = open_packer(plugins, config.packer, config, tokenizer)
    train = Prompts(open_dataset(plugins, config.dataset, config, tokenizer), packer, tokenizer)
    if config.eval is None:
        return train, None
    if config.eval.packer is not None:
        packer = open_packer(plugins, config.eval.packer, config, tokenizer, where="[eval.packer]")
    return train, Prompts(open_dataset(plugins, config.eval.dataset, config, tokenizer), packer, tokenizer)
