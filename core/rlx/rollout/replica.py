"""One replica: an engine, a reward pool and a sampler, which follow the controller's commands.

Rules:

* Commands are handled independently of sampling: weights arrive and tokens are scored while groups are sampled.
* Before the replica ends with an error, it sends `Failed` to the controller, with the component that is responsible.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from pathlib import Path

from msgspec import structs

from rlx.boot import Boot
from rlx.errors import ProcessDied, RlxError
from rlx.fingerprint import Fingerprints
from rlx.logs import LogPart
from rlx.plugins.hook_thread import HookLimits, HookThread
from rlx.rewards.pool import RewardPool
from rlx.rollout.engine import Engine
from rlx.rollout.engine_arguments import engine_arguments
from rlx.rollout.prompts import open_prompts
from rlx.rollout.sampler import Sampler, prompt_sources
from rlx.script.plugins import open_plugins
from rlx.transport.client import Client
from rlx.transport.failure import failure_message
from rlx.transport.messages import (
    Doing,
    DropGroups,
    Failed,
    GroupDone,
    GroupFailed,
    InitTransfer,
    Leases,
    Log,
    Message,
    Ok,
    ReceiveWeights,
    RolloutReady,
    Stop,
)

CONNECT_SECONDS = 30.0
STATS_SECONDS = 1.0
ENGINE_CHECK_SECONDS = 0.1
"""Interval between checks that the engine's processes are alive."""


async def run(boot: Boot) -> None:
    """Run a replica until `Stop`. An error that ends it earlier is sent to the controller and raised."""
    replica = Replica(boot)
    try:
        await replica.serve()
    except Exception as error:  # the boundary: any error that ends the replica goes to the controller
        await replica.report_failure(describe_failure(error, boot.name, boot.log))
        raise
    finally:
        await replica.close()


class Replica:
    """The parts of one replica; `serve` starts and runs them."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._config = boot.load_config()
        self._log = LogPart.from_now(boot.log)
        self._client = Client(
            boot.endpoint, boot.name, boot.attempt, self._handle, on_error=lambda _peer, error: self._fail(error)
        )
        self._connected = False
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resources = contextlib.AsyncExitStack()
        self._reports: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Start, report that the replica is ready, and serve the controller until `Stop`."""
        # First, so that the user sees what it does. The controller expects no heartbeats before it is ready.
        await self._connect()
        ready = await self._start()
        start = self._config.run.start_seconds
        await self._client.request(ready, timeout=start, what=f"{self._boot.name} reports that it is ready")
        tasks = [asyncio.create_task(self._send_stats()), asyncio.create_task(self._watch_engine())]
        try:
            await self._stopped
        finally:
            for task in tasks:
                task.cancel()

    async def report_failure(self, failure: Failed) -> None:
        """Send the failure to the controller if it can still be reached."""
        with contextlib.suppress(RlxError):
            await self._connect()
            await self._client.notify(failure)

    async def close(self) -> None:
        """Stop the sampler, the engine and the reward pool, then disconnect."""
        await self._resources.aclose()
        await self._client.close()

    async def _start(self) -> RolloutReady:
        config = self._config
        plugins = open_plugins(self._boot)
        hooks = HookThread(plugins.enabled_hooks, HookLimits.of(config.run), report=self._report_hook)
        await hooks.call("rlx_worker_start", process=self._boot.name, config=config)
        await self._client.notify(Doing("opens the dataset"))
        train, evaluation = open_prompts(plugins, config)
        probes = train.probes()
        if config.rollout.reward_workers:
            await self._client.notify(Doing(f"starts {config.rollout.reward_workers} reward workers"))
        pool = await self._resources.enter_async_context(RewardPool(self._boot, plugins.timings, plugins.hook_failures))
        await self._client.notify(Doing("starts vLLM (loads the weights, compiles, warms up)"))
        boot = self._boot
        args = engine_arguments(config, boot.index, attempt=boot.attempt, resumed_from=boot.resume_from)
        engine = await Engine.start(args, boot.name, self._log)
        self._resources.callback(engine.close)
        self._engine = engine

        async def send(group: GroupDone | GroupFailed) -> None:
            costs, failures = plugins.timings.take(), plugins.hook_failures.take()
            await self._client.notify(structs.replace(group, costs=costs, hook_failures=failures))

        self._sampler = Sampler(
            engine,
            pool,
            prompt_sources(config, train, evaluation),
            send=send,
            scored=functools.partial(hooks.call, "rlx_group_scored"),
            on_failure=self._fail,
        )
        self._resources.push_async_callback(self._sampler.close)
        return RolloutReady(
            data=Fingerprints(train.view.fingerprint(), None if evaluation is None else evaluation.view.fingerprint()),
            workers=engine.workers,
            probe_tokens=probes,
        )

    def _report_hook(self, text: str) -> None:
        """Show a warning about a hook to the user, through the controller."""
        task = asyncio.ensure_future(self._client.notify(Log("warning", text)))
        self._reports.add(task)  # the event loop keeps only a weak reference
        task.add_done_callback(self._reports.discard)

    async def _connect(self) -> None:
        if not self._connected:
            await self._client.connect(CONNECT_SECONDS)
            self._connected = True

    async def _handle(self, message: Message) -> Message | None:
        match message:
            case Leases():
                await self._sampler.take(message)
            case DropGroups():
                await self._sampler.close()
                await self._engine.clear_cache()
            case InitTransfer():
                await self._engine.init_transfer(message)
            case ReceiveWeights():
                return await self._engine.receive(message)
            case Stop():
                if not self._stopped.done():
                    self._stopped.set_result(None)
            case _:
                raise RlxError(f"{self._boot.name} cannot handle a {type(message).__name__}")
        return Ok()

    async def _send_stats(self) -> None:
        while True:
            await self._client.notify(self._sampler.stats())
            # Sent at once when the engine becomes busy or idle, since the controller extrapolates from the last report.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._engine.busy_changed.wait(), STATS_SECONDS)
            self._engine.busy_changed.clear()

    async def _watch_engine(self) -> None:
        """Fail soon after the engine's processes have died, even if no request is waiting for them."""
        while not self._engine.dead:  # noqa: ASYNC110 - vLLM has no event for it
            await asyncio.sleep(ENGINE_CHECK_SECONDS)
        self._fail(self._engine.death_error())

    def _fail(self, error: BaseException) -> None:
        if not self._stopped.done():
            self._stopped.set_exception(error)


def describe_failure(error: Exception, name: str, log: Path) -> Failed:
    """Return the message that reports why the replica cannot continue."""
    failure = failure_message(error, name)
    if not isinstance(error, ProcessDied):
        return failure
    text = f"{failure.error}; the end of its output is in {log}"
    return structs.replace(failure, error=text, owner=f"vLLM engine of {name}", died=True)
