"""The controller's process: `python -m rlx.proc controller`."""

from __future__ import annotations

import asyncio
import logging
import sys

from rlx.boot import Boot
from rlx.controller.context import Context
from rlx.controller.controller import Controller
from rlx.controller.failure import Failure
from rlx.controller.progress import Progress
from rlx.errors import RunError
from rlx.files import write_atomic
from rlx.names import CONTROLLER, PORT_FILE, replica_name
from rlx.script.plugins import open_plugins
from rlx.script.row_order import open_order
from rlx.transport.messages import Message, RunEnded
from rlx.transport.server import Server


def main(boot: Boot) -> None:
    """Raises RunError where the run failed."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = asyncio.run(serve(boot))
    if ended.status == "failed":
        raise RunError(ended.error)


async def serve(boot: Boot) -> RunEnded:
    """Listens, writes the port where the launcher looks for it, and runs the run."""
    config = boot.load_config()
    plugins = open_plugins(boot)
    plugins.hooks.rlx_worker_start(process=CONTROLLER, config=config)
    failure = Failure()
    controller: Controller | None = None

    async def handle(peer: str, message: Message) -> Message:
        assert controller is not None
        return await controller.handle(peer, message)

    server = Server(boot.endpoint, boot.client_keys, handle, on_error=lambda _, error: failure.fail(error))
    replicas = tuple(replica_name(index) for index in range(config.rollout.replicas)) if boot.rollouts else ()
    order = open_order(plugins, config)
    context = Context(config, boot.run_path, replicas, server, plugins.hooks, failure, Progress(), plugins.costs, order)
    controller = Controller(context, boot)
    try:
        port = await server.start()
        write_atomic(boot.run_path / PORT_FILE, f"{port}\n")
        return await controller.run()
    finally:
        await server.close()
