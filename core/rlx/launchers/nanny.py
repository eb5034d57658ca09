"""The nanny: a process that starts one process of the run and ends that process's whole tree.

Rules:

* The nanny is a subreaper: all descendants of its child stay below the nanny, however often they fork away.
* The tree is ended when the child ends, when the nanny's stdin closes (the launcher has died), or on SIGTERM: first
  SIGTERM to every process, then, after a grace period, SIGKILL until the kernel reports that no child is left.
* Child and nanny each have a session of their own, so Ctrl-C in a terminal reaches neither. The launcher decides.
* SIGUSR2 is passed on to the child, which then writes the stacks of its threads to the log. If the child can't, since
  it is stopped or waits for a disk, the nanny writes that.
* The nanny imports nothing heavy. Its exit code is the child's, or 128 + n if signal n killed the child.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

import msgspec
import psutil

from rlx.boot import frame_blob, read_blob
from rlx.launchers.linux import DUMP_SIGNAL, become_subreaper
from rlx.names import LOGS, NANNY, SIGNAL_EXIT_CODE, shell_exit_code

GRACE_SECONDS = 2.0
LAST_RESORT_SECONDS = 30.0
"""Processes that outlive SIGKILL for this long are stuck in the kernel and can't be ended."""

_CANNOT_DUMP = {
    psutil.STATUS_STOPPED: "is stopped (SIGSTOP) and runs no code until it gets SIGCONT",
    psutil.STATUS_TRACING_STOP: "is stopped by a debugger",
    psutil.STATUS_DISK_SLEEP: "waits in the kernel for a disk or a network file system",
}
"""State of a process -> why it can't write its stacks."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_END_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class BootHead(msgspec.Struct, frozen=True):
    """The fields of a `Boot` that the nanny needs; the others are not decoded."""

    kind: str
    name: str
    run_dir: str

    @property
    def log(self) -> Path:
        return Path(self.run_dir) / LOGS / f"{self.name}.log"


def main() -> int:
    """Run the nanny; return its exit code."""
    blob = read_blob(_STDIN)
    head = msgspec.msgpack.decode(blob, type=BootHead)
    head.log.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(head.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, _STDOUT)
    os.dup2(log, _STDERR)
    os.close(log)
    become_subreaper()
    signals = _signal_pipe()
    tree = _Tree(_spawn(head.kind, blob), head.name)
    try:
        tree.wait_for_end(signals)
    finally:
        tree.end()
    return tree.exit_code


class _Tree:
    """Every process below this one; `root` is the pid of the one that the nanny started."""

    def __init__(self, root: int, name: str) -> None:
        self._root = root
        self._name = name
        self._status: int | None = None

    @property
    def exit_code(self) -> int:
        if self._status is None:
            return SIGNAL_EXIT_CODE + signal.SIGTERM
        return shell_exit_code(self._status)

    def wait_for_end(self, signals: int) -> None:
        """Return once the tree must be ended. `signals` is the descriptor of `_signal_pipe`."""
        while self._status is None:
            ready, _, _ = select.select([_STDIN, signals], [], [])
            if _STDIN in ready and not os.read(_STDIN, 4096):
                return
            arrived = set(os.read(signals, 4096)) if signals in ready else set()
            if _END_SIGNALS & arrived:
                return
            if DUMP_SIGNAL in arrived:
                self._dump_stacks()
            if not self.reap():
                return

    def _dump_stacks(self) -> None:
        """Have the child write its stacks to the log, or write why it can't."""
        with contextlib.suppress(psutil.NoSuchProcess):
            child = psutil.Process(self._root)
            if why := _CANNOT_DUMP.get(child.status()):
                sys.stderr.write(f"{NANNY}{self._name} {why}\n")
                sys.stderr.flush()
            child.send_signal(DUMP_SIGNAL)

    def reap(self) -> bool:
        """Collect exit statuses of ended children; return False once no child is left, dead or alive."""
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
        """End all processes of the tree, first by SIGTERM."""
        _signal_descendants(signal.SIGTERM)
        start = time.monotonic()
        while self.reap():
            waited = time.monotonic() - start
            if waited > GRACE_SECONDS + LAST_RESORT_SECONDS:
                sys.stderr.write(f"{NANNY}some processes outlive SIGKILL; giving up on them\n")
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


def _signal_pipe() -> int:
    """Return a descriptor that gets the number of each signal as a byte, so that one `select` waits for everything."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, DUMP_SIGNAL, *_END_SIGNALS):
        signal.signal(number, lambda *_: None)  # a handler has to exist for the wake-up byte to be written
    return reader


def _spawn(kind: str, blob: bytes) -> int:
    """Start the child with `blob` on its stdin, from memory: a pipe could fill up and block. Return its pid."""
    stdin = os.memfd_create("rlx-boot")
    os.write(stdin, frame_blob(blob))
    os.lseek(stdin, 0, os.SEEK_SET)
    # Not by `subprocess`, which may collect the ended child, and its exit code, before `_Tree.reap` does.
    child = os.posix_spawn(
        sys.executable,
        [sys.executable, "-P", "-m", "rlx.proc", kind],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, stdin, _STDIN)],
        setsid=True,
        setsigmask=[DUMP_SIGNAL],  # until the child has a handler, it would end it
        setsigdef=[signal.SIGPIPE],
    )
    os.close(stdin)
    return child
