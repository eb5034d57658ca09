"""The policy process: a torch elastic agent, and the ranks that it starts.

The rules of this part:

* The agent starts N ranks on this machine, which meet on the loopback interface, and never restarts any: a rank that
  dies ends the policy, and the supervisor decides what comes next.
* Rank 0 is the controller's client `policy`; it connects before anything slow happens, so that heartbeats go from the
  start.
* What a rank says goes to `logs/policy/rank_<i>.log`; the last lines of the one that failed first go to the policy's
  own log.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.boot import Boot, decode_boot, encode_boot
from rlx.errors import ProcessDied, RlxError, UsageError
from rlx.logs import last_lines
from rlx.names import LOGS, LOOPBACK, POLICY
from rlx.platform import PLATFORMS

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

_SAID_BY_DEATH = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")
"""Loggers whose traceback of the agent would follow a rank's death and hide what the rank said."""


def main(boot: Boot) -> int:
    """Start the ranks and wait for them. Raises ProcessDied, or UsageError where that is why a rank ended."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    config = boot.load_config()
    os.environ.update({**PLATFORMS[config.run.device].policy_env, **config.policy.env})
    _log(boot, 0).parent.mkdir(parents=True, exist_ok=True)
    for name in _SAID_BY_DEATH:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        elastic_launch(_launch_config(boot.name, config.policy.parallel.world_size), rank_main)(encode_boot(boot))
    except ChildFailedError as error:
        raise _death(boot, error) from None
    return 0


def _launch_config(name: str, ranks: int) -> LaunchConfig:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=name,
        role=name,
        rdzv_backend="c10d",
        rdzv_endpoint=f"{LOOPBACK}:0",
        local_addr=LOOPBACK,
        max_restarts=0,
        start_method="spawn",
        # Ranks write their logs themselves.
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )


def _death(boot: Boot, error: ChildFailedError) -> RlxError:
    rank, failure = error.get_first_failure()
    lines = "\n".join(last_lines(_log(boot, rank))).rstrip() or "(it wrote nothing)"
    code = failure.exitcode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    text = f"policy rank {rank} {how}. Its last lines:\n{lines}"
    return UsageError(text) if code == UsageError.exit_code else ProcessDied(text)


def _log(boot: Boot, rank: int) -> Path:
    return boot.run_path / LOGS / POLICY / f"rank_{rank}.log"


def rank_main(blob: bytes) -> None:
    """What each rank runs. Ends the process with the exit code of an RlxError that escapes."""
    boot = decode_boot(blob)
    _write_log(_log(boot, int(os.environ["RANK"])))
    from rlx.policy.rank import run

    try:
        run(boot)
    except RlxError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201 - stdout is this rank's log
        raise SystemExit(error.exit_code) from error


def _write_log(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
