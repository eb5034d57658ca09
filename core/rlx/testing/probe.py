"""One plugin, looked at in a process of its own: `rlx plugins check`, and the schema of third-party plugins.

The rules of this part:

* The plugin is imported there, never here. One that hangs, prints, or ends its process gives a report like any other.
* It finds what this process would find (`sys.path`), and goes to no network: hubs are told that they are offline.
* The process's stdout belongs to the report; what the plugin prints goes to its stderr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from typing import IO, Any

import msgspec

from rlx.boot import PluginRecord
from rlx.errors import PluginError

LAST_LINES = 5
"""How much of its stderr is shown of a process that ended without a report."""


class Report(msgspec.Struct, frozen=True):
    """What was seen of a plugin."""

    error: str = ""
    """Why it can't be had; the rest is empty then."""
    traceback: str = ""
    """Where its import failed."""
    import_seconds: float | None = None
    broken: str = ""
    """The rules of its contract that it breaks."""
    untested: str = ""
    """What could not be looked at, and why."""
    args_schema: dict[str, Any] = {}
    """JSON Schema of its `args`."""

    @property
    def fine(self) -> bool:
        return not (self.error or self.broken)


class Task(msgspec.Struct, frozen=True):
    """What the process is told."""

    record: PluginRecord
    contract: bool
    """Whether to ask for its contract, or for its schema only."""
    ref_template: str


def probe(
    record: PluginRecord, *, contract: bool, timeout_seconds: float, ref_template: str = "#/$defs/{model}"
) -> Report:
    """Imports the plugin elsewhere and reports. Raises nothing that the plugin could cause."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    task = msgspec.json.encode(Task(record, contract, ref_template))
    # Chatter goes to a file: a process that the plugin started would keep a pipe open.
    with tempfile.TemporaryFile() as chatter, _started(environment, chatter) as process:
        try:
            answer, _ = process.communicate(task, timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            return Report(error=f"took more than {timeout_seconds:g} s")
        finally:
            _kill_all(process.pid)
        if process.returncode == 0:
            return msgspec.json.decode(answer, type=Report)
        chatter.seek(0)
        return Report(error=_ended(process.returncode, chatter.read().decode(errors="replace")))


def _started(environment: Mapping[str, str], chatter: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-P", "-m", "rlx.testing.probe"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=chatter,
        env=environment,
        start_new_session=True,
    )


def _kill_all(group: int) -> None:
    """The process, where it still runs, and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _ended(code: int, chatter: str) -> str:
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = chatter.splitlines()[-LAST_LINES:]
    return "\n".join([f"the process that imported it {how}", *(f"| {line}" for line in lines)])


def main() -> None:
    """The process: a Task on stdin, a Report on stdout."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    answer.write(msgspec.json.encode(_look(task)))
    answer.close()
    os._exit(0)  # threads that the plugin left running must not hold the report up


def _look(task: Task) -> Report:
    # What rlx itself needs is imported before the clock starts: the time is to be the plugin's own.
    from rlx.plugins.load import load
    from rlx.preflight.describe import args_schema
    from rlx.testing.bare import check_bare

    began = time.perf_counter()
    try:
        target = load(task.record)
    except PluginError as error:
        return Report(error=str(error), traceback="".join(traceback.format_exception(error)))
    seconds = time.perf_counter() - began
    schema = args_schema(task.record.kind, target, task.ref_template)
    found = check_bare(task.record.kind, target) if task.contract else None
    return Report(
        import_seconds=seconds,
        broken=found.broken if found else "",
        untested=found.untested if found else "",
        args_schema=schema,
    )


if __name__ == "__main__":
    main()
