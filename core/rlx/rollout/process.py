"""Entry point of a replica's process: `python -m rlx.proc rollout`."""

from __future__ import annotations

import asyncio
import os

from rlx.boot import Boot
from rlx.rollout.engine_arguments import engine_environment


def main(boot: Boot) -> int:
    """Run a replica until the controller sends `Stop`. Any other end raises the error that caused it."""
    # vLLM reads its environment on import, and passes it to the processes that it starts.
    os.environ.update(engine_environment(boot.load_config(), boot.index))
    from rlx.rollout.replica import run

    asyncio.run(run(boot))
    return 0
