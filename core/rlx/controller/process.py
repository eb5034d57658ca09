"""Entry point of the controller's process: `python -m rlx.proc controller`."""

from __future__ import annotations

import asyncio
import logging
import sys

from rlx.boot import Boot
from rlx.controller.controller import Controller
from rlx.controller.runtime.failure import Failure
from rlx.controller.runtime.progress import Progress
from rlx.controller.runtime.services import Services
from rlx.errors import RunError
from rlx.files import write_atomic
from rlx.names import CONTROLLER, PORT_FILE, replica_name
from rlx.script.plugins import open_plugins
from rlx.script.row_order import open_order
from rlx.transport.messages import Message, RunEnded
from rlx.transport.server import Server


def main(boot: Boot) -> None:
    """Run the controller. Raises RunError if the run fails."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = asyncio.run(serve(boot))
    if ended.status == "failed":
        raise RunError(ended.error)


async def serve(boot: Boot) -> RunEnded:
    """Open the server, write its port to the file that the launcher reads, run, and return the result."""
    config = boot.load_config()
    plugins = open_plugins(boot)
    failure = Failure()
    controller: Controller | None = None

    async def handle(peer: str, message: Message) -> Message:
        assert controller is not None
        return await controller.handle(peer, message)

    server = Server(boot.endpoint, boot.client_keys, handle, on_error=lambda _, error: failure.fail(error))
    replicas = tuple(replica_name(index) for index in range(config.rollout.replicas)) if boot.rollouts else ()
    services = Services(
        config=config,
        run_dir=boot.run_path,
        replicas=replicas,
        channel=server,
        plugin_hooks=plugins.enabled_hooks,
        failure=failure,
        progress=Progress(),
        timings=plugins.timings,
        hook_failures=plugins.hook_failures,
        order=open_order(plugins, config),
    )
    controller = Controller(services, boot)
    try:
        await services.hooks.call("rlx_worker_start", process=CONTROLLER, config=config)
        port = await server.start()
        write_atomic(boot.run_path / PORT_FILE, f"{port}\n")
        return await controller.run()
    finally:
        await server.close()
