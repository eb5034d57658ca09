"""A process that starts one process of the run and ends its whole tree.

The rules of this part:

* The nanny is a subreaper: whatever its child starts, however often it forks away, stays below the nanny.
* The tree ends when the child ends, when the nanny's stdin closes (who started it has died), or on SIGTERM: first
  SIGTERM for all, then, after a grace, SIGKILL until the kernel says that there is no child left.
* Child and nanny have sessions of their own: Ctrl-C in a terminal reaches neither. The launcher decides.
* It imports nothing heavy. Its exit code is the child's, or 128 + n where signal n killed the child.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from pathlib import Path

import msgspec
import psutil

from rlx.boot import frame_blob, read_blob
from rlx.launchers.linux import become_subreaper
from rlx.names import LOGS

GRACE_SECONDS = 2.0
LAST_RESORT_SECONDS = 30.0
"""Processes that outlive SIGKILL for so long are stuck in the kernel; nobody can end them."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_END_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Head(msgspec.Struct, frozen=True):
    """The part of a `Boot` that concerns the nanny; the config in it is not looked at."""

    kind: str
    name: str
    run_dir: str

    @property
    def log(self) -> Path:
        return Path(self.run_dir) / LOGS / f"{self.name}.log"


def main() -> int:
    blob = read_blob(_STDIN)
    head = msgspec.msgpack.decode(blob, type=Head)
    _write_to(head.log)
    become_subreaper()
    wake = _wake_on_signals()
    child = _Tree(_spawn(head.kind, blob))
    try:
        child.wait_for_end(wake)
    finally:
        child.end()
    return child.exit_code


class _Tree:
    """Every process below this one; `root` is the one that was started."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._status: int | None = None

    @property
    def exit_code(self) -> int:
        if self._status is None:
            return 128 + signal.SIGTERM
        return self._status if self._status >= 0 else 128 - self._status

    def wait_for_end(self, wake: int) -> None:
        while self._status is None:
            ready, _, _ = select.select([_STDIN, wake], [], [])
            if _STDIN in ready and not os.read(_STDIN, 4096):
                return
            if wake in ready and _END_SIGNALS & set(os.read(wake, 4096)):
                return
            if not self.reap():
                return

    def reap(self) -> bool:
        """Collects the dead; False when there is no child left, dead or alive."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._root:
                    self._status = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            return False

    def end(self) -> None:
        _signal_descendants(signal.SIGTERM)
        start = time.monotonic()
        while self.reap():
            waited = time.monotonic() - start
            if waited > GRACE_SECONDS + LAST_RESORT_SECONDS:
                sys.stderr.write("rlx nanny: some processes outlive SIGKILL; giving up on them\n")
                return
            if waited > GRACE_SECONDS:
                _signal_descendants(signal.SIGKILL)
            time.sleep(0.01)


def _signal_descendants(number: signal.Signals) -> None:
    for process in psutil.Process().children(recursive=True):
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _write_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, _STDOUT)
    os.dup2(descriptor, _STDERR)
    os.close(descriptor)


def _wake_on_signals() -> int:
    """A descriptor that gets the number of each signal as a byte, so that one `select` waits for everything."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_END_SIGNALS):
        signal.signal(number, _ignore)
    return reader


def _ignore(_number: int, _frame: object) -> None:
    """A handler has to exist for the wake-up byte to be written."""


def _spawn(kind: str, blob: bytes) -> int:
    """Starts the child with `blob` on its stdin, from memory: a pipe could fill up and block.

    Not by `subprocess`, which may collect the dead child before this process does, and its exit code with it.
    """
    stdin = os.memfd_create("rlx-boot")
    os.write(stdin, frame_blob(blob))
    os.lseek(stdin, 0, os.SEEK_SET)
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "rlx.proc", kind],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, stdin, _STDIN)],
        setsid=True,
        setsigdef=[signal.SIGPIPE],
    )
    os.close(stdin)
    return child
