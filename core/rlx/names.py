"""Names and limits that several processes have to agree on: processes of a run, files of a run directory, addresses."""

from __future__ import annotations

VERSION = "0.1.0"

CONTROLLER = "controller"
POLICY = "policy"
LAUNCHER = "launcher"

LOOPBACK = "127.0.0.1"
"""Address at which the controller listens and the policy's ranks meet: all processes of a run are on one machine."""

CONFIG_FILE = "config.json"
PLUGINS_FILE = "plugins.json"
CHANGES_FILE = "changes.jsonl"
ENVIRONMENT_FILE = "environment.json"
KEYS_FILE = "keys.json"
SUMMARY_FILE = "summary.json"
METRICS_FILE = "metrics.jsonl"
PORT_FILE = "controller.port"
"""Written by the controller once it listens."""
LEDGER_FILE = "ledger.sqlite"
LOGS = "logs"
CHECKPOINTS = "checkpoints"
TRAJECTORIES = "trajectories"
EXPORT = "export"

PROBES = 4
"""Prompts whose log-probabilities verify a weight sync before there are trained sequences."""
PROBE_TOKENS = 256
"""Tokens of a sequence that verify a weight sync."""

SIGNAL_EXIT_CODE = 128
"""A process that was killed by signal n has the exit code 128 + n, as shells report it."""

NANNY = "rlx nanny: "
"""Begins each line that a nanny writes to the log of its child."""


def replica_name(index: int) -> str:
    """`rollout-0`, `rollout-1`, ..."""
    return f"rollout-{index}"


def shell_exit_code(returncode: int) -> int:
    """Convert the return code that Python reports (-n for signal n) to an exit code (128 + n)."""
    return returncode if returncode >= 0 else SIGNAL_EXIT_CODE - returncode
