"""The life of one rank: join, build, report, serve, leave."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

import msgspec

from rlx.platform import PLATFORMS
from rlx.plugins.timings import CallTimings, Timing
from rlx.policy.command_loop import serve
from rlx.policy.failures import Board, reported, watch
from rlx.policy.parallel.mesh import Ranks, join_ranks, rendezvous_store
from rlx.policy.setup import make_worker
from rlx.script.plugins import open_plugins
from rlx.transport.sync_client import SyncClient

if TYPE_CHECKING:
    from rlx.boot import Boot
    from rlx.config.schema import Config


def run(boot: Boot) -> None:
    """Serve the controller until it says stop. Raises what ended the rank, after it was reported."""
    logging.basicConfig(level=logging.INFO)
    config = boot.load_config()
    leads = os.environ["RANK"] == "0"
    client = SyncClient(boot.endpoint, boot.name, boot.attempt) if leads else None
    try:
        _join(boot, config, client)
    finally:
        if client is not None:
            client.close()


def _join(boot: Boot, config: Config, client: SyncClient | None) -> None:
    board = Board(rendezvous_store())
    with reported(int(os.environ["RANK"]), board, client):
        world = join_ranks(PLATFORMS[config.run.device], config.policy.parallel)
        # A connection of its own: stores are not to be shared between threads.
        watching = watch(Board(rendezvous_store()), client) if client is not None else nullcontext()
        with watching:
            _work(boot, config, world, client, board)
        world.close()


def _work(boot: Boot, config: Config, world: Ranks, client: SyncClient | None, board: Board) -> None:
    plugins = open_plugins(boot)
    plugins.hooks.rlx_worker_start(process=boot.name, config=config)
    worker = make_worker(boot, config, plugins, world)
    # Of all ranks, so that nothing is reported before every rank is ready.
    ready = msgspec.structs.replace(worker.ready(), costs=_all_costs(world, plugins.costs).take())
    if client is not None:
        client.request(ready, timeout=config.run.start_seconds, what="the policy reports that it is ready")
    serve(world, client, worker.handle, board)
    worker.sender.close()


def _all_costs(world: Ranks, own: CallTimings) -> CallTimings:
    costs = CallTimings()
    for taken in world.gather_bytes(msgspec.msgpack.encode(own.take())):
        costs.merge(msgspec.msgpack.decode(taken, type=dict[str, Timing]))
    return costs
