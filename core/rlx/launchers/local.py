"""The launcher `local`: starts every process on this machine.

Rules:

* Each process is started through a nanny with an open pipe on its stdin. The pipe closes however this process ends.
* This process is a subreaper, too: when a nanny is killed, its orphaned descendants become children of this process,
  which ends them. A mark in their environment distinguishes them from other children of this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from rlx.errors import RunError
from rlx.launchers.base import ProcessSpec
from rlx.launchers.linux import DUMP_SIGNAL, become_subreaper
from rlx.launchers.nanny import GRACE_SECONDS
from rlx.logs import LAST_LINES, LogPart
from rlx.names import shell_exit_code

MARK = "RLX_LAUNCHER"
CLOSE_SECONDS = GRACE_SECONDS + 5.0


class LocalProcess:
    """A nanny and the process tree below it."""

    def __init__(self, name: str, nanny: subprocess.Popen[bytes], log: Path, on_end: Callable[[], None]) -> None:
        self.name = name
        self.log = log
        self._nanny = nanny
        self._on_end = on_end
        self._output = LogPart.from_now(log)
        self._code: int | None = None

    @property
    def pid(self) -> int:
        return self._nanny.pid

    def poll(self) -> int | None:
        if self._code is None and (code := self._nanny.poll()) is not None:
            self._code = shell_exit_code(code)
            self._on_end()
        return self._code

    def last_lines(self, count: int) -> list[str]:
        return self._output.last_lines(count)

    def write(self, data: bytes) -> None:
        """Write to the nanny's stdin, which stays open. Raises RunError if the nanny has ended."""
        assert self._nanny.stdin is not None
        try:
            self._nanny.stdin.write(data)
            self._nanny.stdin.flush()
        except BrokenPipeError as error:
            raise RunError("\n".join([f"{self.name} did not start. Its log:", *self.last_lines(LAST_LINES)])) from error

    def kill(self) -> None:
        if self.poll() is None:
            self._nanny.terminate()

    def dump_stacks(self) -> None:
        if self.poll() is None:
            self._nanny.send_signal(DUMP_SIGNAL)

    def kill_nanny(self) -> None:
        """Kill a nanny that did not end in time; its tree is left to `_end_orphans`."""
        if self.poll() is None:
            self._nanny.kill()
            self._nanny.wait()

    def release(self) -> None:
        """Close the pipe, on which a nanny that still lives ends its tree."""
        assert self._nanny.stdin is not None
        self._nanny.stdin.close()


class LocalLauncher:
    """Starts processes as children of this process."""

    def __init__(self) -> None:
        become_subreaper()
        self._mark = uuid.uuid4().hex
        self._processes: list[LocalProcess] = []

    def start(self, process: ProcessSpec) -> LocalProcess:
        process.log.parent.mkdir(parents=True, exist_ok=True)
        started = LocalProcess(process.name, self._start_nanny(process.log), process.log, self._end_orphans)
        self._processes.append(started)
        started.write(process.stdin)
        return started

    def close(self) -> None:
        for process in self._processes:
            process.kill()
        deadline = time.monotonic() + CLOSE_SECONDS
        while any(process.poll() is None for process in self._processes) and time.monotonic() < deadline:
            time.sleep(0.01)
        for process in self._processes:
            process.kill_nanny()
            process.release()
        self._end_orphans()
        if left := [process.pid for process in self._orphans()]:
            raise RunError(
                f"processes {left} could not be ended: they outlive SIGKILL. Inspect them with `ps -fp PID`."
            )

    def _start_nanny(self, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "rlx.proc", "nanny"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={**os.environ, MARK: self._mark},
                start_new_session=True,
            )

    def _orphans(self) -> Iterator[psutil.Process]:
        """Yield the processes of this launcher that have no living nanny above them."""
        nannies = {process.pid for process in self._processes}
        for child in psutil.Process().children():
            if child.pid not in nannies and _mark_of(child) == self._mark:
                yield child
                yield from child.children(recursive=True)

    def _end_orphans(self) -> None:
        deadline = time.monotonic() + CLOSE_SECONDS
        while (orphans := list(self._orphans())) and time.monotonic() < deadline:
            for orphan in orphans:
                with contextlib.suppress(psutil.NoSuchProcess):
                    orphan.send_signal(signal.SIGKILL)
            psutil.wait_procs(orphans, timeout=1.0)


def _mark_of(process: psutil.Process) -> str | None:
    try:
        mark: str | None = process.environ().get(MARK)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        # Already dead (or a zombie), or another user's: in neither case ours to end.
        return None
    return mark
