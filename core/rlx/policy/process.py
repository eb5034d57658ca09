"""The policy process: a torch elastic agent that starts the policy's ranks.

Rules:

* The agent starts N ranks on this machine, which meet on the loopback interface, and never restarts any: a rank that
  exits ends the policy, and the supervisor decides what happens next.
* Ranks are forks of one process that has imported torch and transformers: N imports take N times the processor time.
* Rank 0 is the controller's client `policy`. It connects before any slow step, so heartbeats arrive from the start.
* Each rank writes its output to `logs/policy/rank_<i>.log`; the exception of the rank that failed first, or its last
  lines, are copied to the policy's own log.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.boot import Boot, decode_boot, encode_boot
from rlx.errors import ProcessDied, RlxError, UsageError
from rlx.launchers.linux import dump_stacks_on_signal, name_process
from rlx.logs import USAGE_LINES, LogPart
from rlx.names import LOGS, LOOPBACK, POLICY
from rlx.platform import PLATFORMS

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

_AGENT_LOGGERS = ("torch.distributed.elastic.multiprocessing.api", "torch.multiprocessing.spawn")
"""Loggers to silence: after a rank's exit they write the agent's traceback, which hides the rank's own last lines."""


def main(boot: Boot) -> int:
    """Start the ranks and wait for them. If a rank fails, raises UsageError (for its exit code) or ProcessDied."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = boot.load_config()
    os.environ.update({**PLATFORMS[config.run.device].policy_env, **config.policy.env})
    _log_path(boot, 0).parent.mkdir(parents=True, exist_ok=True)
    for name in _AGENT_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from rlx.policy import rendezvous

    rendezvous.register(config.policy.parallel.world_size, config.run.start_seconds)
    multiprocessing.set_forkserver_preload(["rlx.policy.rank", "transformers.modeling_utils"])
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=config.policy.parallel.world_size,
        run_id=boot.name,
        role=boot.name,
        rdzv_backend=rendezvous.BACKEND,
        local_addr=LOOPBACK,
        max_restarts=0,
        start_method="forkserver",
        # Ranks write their logs themselves.
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )
    logs = [LogPart.from_now(_log_path(boot, rank)) for rank in range(config.policy.parallel.world_size)]
    try:
        elastic_launch(launch, rank_main)(encode_boot(boot))
    except ChildFailedError as error:
        raise _exit_error(logs, error) from None
    return 0


def _exit_error(logs: Sequence[LogPart], error: ChildFailedError) -> RlxError:
    """Return the error for the rank that exited first: the exception that ended it, or the last lines of its log.

    logs: one for each rank.
    """
    rank, failure = error.get_first_failure()
    code = failure.exitcode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    text, log = f"policy rank {rank} {how}", logs[rank]
    if code == UsageError.exit_code:
        return UsageError(f"{text}. Its last lines:\n" + "\n".join(log.last_lines(USAGE_LINES)).rstrip())
    if cause := log.first_exception():
        return ProcessDied(f"{text}: {cause}\nIts log: {log.path}")
    lines = "\n".join(log.last_lines()).rstrip() or "(it wrote nothing)"
    return ProcessDied(f"{text}. Its last lines:\n{lines}")


def _log_path(boot: Boot, rank: int) -> Path:
    return boot.run_path / LOGS / POLICY / f"rank_{rank}.log"


def rank_main(blob: bytes) -> None:
    """Run one rank. Exits with the exit code of an RlxError that escapes."""
    boot = decode_boot(blob)
    name_process(f"rlx-rank-{os.environ['RANK']}")  # as a fork it has the same command line as all others
    # Redirect the descriptors, not sys.stdout, so that output of native code goes to the log too.
    log = os.open(_log_path(boot, int(os.environ["RANK"])), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    dump_stacks_on_signal()
    from rlx.policy.rank import run

    try:
        run(boot)
    except RlxError as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # noqa: T201 - stdout is this rank's log
        raise SystemExit(error.exit_code) from error
    except Exception:
        # Elastic's own handler keeps the traceback from the log.
        traceback.print_exc()
        raise
