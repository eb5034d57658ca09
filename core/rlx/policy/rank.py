"""The life of one policy rank: join the other ranks, build the policy, report ready, serve commands, leave."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import msgspec

from rlx.platform import PLATFORMS
from rlx.plugins.timings import CallTimings, HookFailures, Timing
from rlx.policy.command_loop import serve_commands
from rlx.policy.failures import FailureStore, report_failure, watch_other_ranks
from rlx.policy.parallel.mesh import Ranks, join_ranks, rendezvous_store
from rlx.policy.setup import make_worker
from rlx.script.plugins import open_plugins
from rlx.transport.messages import CheckpointWritten, Doing
from rlx.transport.sync_client import SyncClient

if TYPE_CHECKING:
    from rlx.boot import Boot
    from rlx.config.schema import Config
    from rlx.policy.weights.writer import Written


def run(boot: Boot) -> None:
    """Serve the controller until it sends Stop. Raises the error that ended the rank, after reporting it."""
    logging.basicConfig(level=logging.INFO)
    config = boot.load_config()
    rank = int(os.environ["RANK"])
    with ExitStack() as stack:
        client = SyncClient(boot.endpoint, boot.name, boot.attempt) if rank == 0 else None
        if client is not None:
            stack.callback(client.close)
        failures = FailureStore(rendezvous_store())
        stack.enter_context(report_failure(rank, failures, client))
        ranks = join_ranks(PLATFORMS[config.run.device], config.policy.parallel)
        # The watching thread has a connection of its own: threads must not share a store.
        watching = watch_other_ranks(FailureStore(rendezvous_store()), client) if client is not None else nullcontext()
        with watching:
            _serve(boot, config, ranks, client, failures)
        ranks.close()


def _serve(boot: Boot, config: Config, ranks: Ranks, client: SyncClient | None, failures: FailureStore) -> None:
    plugins = open_plugins(boot)
    plugins.hooks.rlx_worker_start(process=boot.name, config=config)

    def doing(text: str) -> None:
        if client is not None:
            client.notify(Doing(text))

    def report(step: int, written: Written) -> None:
        assert client is not None, "only rank 0 reports"
        client.notify(CheckpointWritten(step, written.seconds, written.files, written.error))

    worker = make_worker(boot, config, plugins, ranks, doing, report)
    doing("waits for the other ranks")
    # This gather also makes rank 0 wait until every rank is ready.
    timings, hook_failures = CallTimings(), HookFailures()
    for payload in ranks.gather_bytes(msgspec.msgpack.encode((plugins.timings.take(), plugins.hook_failures.take()))):
        rank_timings, rank_failures = msgspec.msgpack.decode(payload, type=tuple[dict[str, Timing], dict[str, int]])
        timings.merge(rank_timings)
        hook_failures.merge(rank_failures)
    if client is not None:
        ready = msgspec.structs.replace(worker.ready(), costs=timings.take(), hook_failures=hook_failures.take())
        client.request(ready, timeout=config.run.start_seconds, what="the policy reports that it is ready")
    serve_commands(ranks, client, worker.handle, failures)
    worker.sender.close()
    worker.writer.close()
