"""`python -m rlx.proc rollout`: one replica, from boot data to exit code."""

from __future__ import annotations

import asyncio
import os

from rlx.boot import Boot
from rlx.rollout.engine_arguments import engine_environment


def main(boot: Boot) -> int:
    """Run the replica until the controller sends Stop. Raises the error that ends it otherwise."""
    # vLLM reads its environment when it is imported, and passes it to the processes that it starts.
    os.environ.update(engine_environment(boot.load_config(), boot.index))
    from rlx.rollout.replica import run

    asyncio.run(run(boot))
    return 0
