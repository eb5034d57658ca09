"""Inspect a plugin in a process of its own, for `rlx plugins check` and for the schema of third-party plugins.

Rules:

* The plugin is imported in that process only. A plugin that hangs, prints, or ends its process is reported, too.
* The process has the same `sys.path` as this one. Hugging Face libraries are put into offline mode.
* The process's stdout is reserved for the report; output of the plugin goes to its stderr.
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
from typing import Any

import msgspec

from rlx.boot import PluginRecord
from rlx.errors import PluginError

LAST_LINES = 5
"""How many lines of stderr are shown if a process ends without a report."""


class Report(msgspec.Struct, frozen=True):
    """The result of inspecting a plugin."""

    error: str = ""
    """Why it can't be imported; the other fields are empty then."""
    traceback: str = ""
    """The traceback of its import."""
    import_seconds: float | None = None
    broken: str = ""
    """The rules of its contract that it breaks."""
    untested: str = ""
    """Why its contract could not be tested."""
    args_schema: dict[str, Any] = {}
    """JSON Schema of its `args`."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with the plugin."""
        return not (self.error or self.broken)


class ProbeRequest(msgspec.Struct, frozen=True):
    """The plugin that the process is to inspect, and how."""

    record: PluginRecord
    contract: bool
    """Whether to test its contract, or only to make the schema of its args."""
    ref_template: str


def probe(
    record: PluginRecord, *, contract: bool, timeout_seconds: float, ref_template: str = "#/$defs/{model}"
) -> Report:
    """Inspect a plugin in another process. Errors of the plugin are reported, never raised."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    request = msgspec.json.encode(ProbeRequest(record, contract, ref_template))
    # stderr is a file: a process that the plugin has started would keep a pipe open.
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-u", "-P", "-m", "rlx.testing.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=environment,
            start_new_session=True,
        )
        with process:
            try:
                answer, _ = process.communicate(request, timeout=timeout_seconds)
            except subprocess.TimeoutExpired:
                return Report(error=f"took more than {timeout_seconds:g} s")
            finally:
                # The process, if it still runs, and all processes that it has started.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode == 0:
            return msgspec.json.decode(answer, type=Report)
        stderr.seek(0)
        lines = stderr.read().decode(errors="replace").splitlines()[-LAST_LINES:]
    code = process.returncode
    how = f"was ended by signal {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return Report(error="\n".join([f"the process that imported it {how}", *(f"| {line}" for line in lines)]))


def main() -> None:
    """Run the process: read a ProbeRequest from stdin, write a Report to stdout."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=ProbeRequest)
    answer.write(msgspec.json.encode(_inspect(request)))
    answer.close()
    os._exit(0)  # threads of the plugin must not delay the report


def _inspect(request: ProbeRequest) -> Report:
    # Imported before the clock starts: it times the plugin's own import.
    from rlx.plugins.load import load
    from rlx.preflight.describe import args_schema
    from rlx.testing.bare import check_bare

    began = time.perf_counter()
    try:
        target = load(request.record)
    except PluginError as error:
        return Report(error=str(error), traceback="".join(traceback.format_exception(error)))
    seconds = time.perf_counter() - began
    schema = args_schema(request.record.kind, target, request.ref_template)
    found = check_bare(request.record.kind, target) if request.contract else None
    return Report(
        import_seconds=seconds,
        broken=found.broken if found else "",
        untested=found.untested if found else "",
        args_schema=schema,
    )


if __name__ == "__main__":
    main()
