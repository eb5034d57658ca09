"""`check_launcher` with real processes: rlx's own launcher, and copies of it with one fault each."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import psutil
import pytest

from rlx.launchers.local import MARK, LocalLauncher, LocalProcess
from rlx.testing import ContractError, check_launcher


def test_the_built_in_launcher_keeps_its_contract():
    check_launcher(LocalLauncher)


class RawCodes(LocalLauncher):
    """Returns -9 where a signal ended the process, as `subprocess` does."""

    def start(self, process):
        started = super().start(process)
        poll = started.poll
        started.poll = lambda: 128 - code if (code := poll()) is not None and code > 128 else code
        return started


class ClosedStdin(LocalLauncher):
    """Closes stdin once the boot data is written, which ends the nanny."""

    def start(self, process):
        started = super().start(process)
        started.release()
        return started


class KillsTheRoot(LocalLauncher):
    """Stops one process of the tree only, and ends none; the test has to."""

    stopped: list[LocalProcess] = []

    def start(self, process):
        started = super().start(process)
        self.stopped.append(started)
        started.kill = lambda: os.kill(started.pid, signal.SIGSTOP)
        return started


class NoHandle(LocalLauncher):
    def start(self, process):
        super().start(process)


class LeavesThem(LocalLauncher):
    """Forgets its processes, which the test has to end."""

    forgotten: list[LocalProcess] = []

    def close(self):
        self.forgotten += self._processes


@pytest.mark.parametrize(
    ("cls", "rule", "seen"),
    [
        (RawCodes, "poll", "of a process that SIGKILL ended it returned -9"),
        (ClosedStdin, "kill", "the process had not started; does stdin stay open?"),
        (KillsTheRoot, "kill", "2 of 2 processes were alive"),
        (NoHandle, "methods", "the handle of `start` has no name, pid, log, poll, last_lines, kill"),
        (LeavesThem, "close", "2 of 2 processes were alive after it"),
    ],
)
def test_a_fault_is_found(cls, rule, seen):
    with pytest.raises(ContractError) as caught:
        check_launcher(cls, timeout_seconds=4.0)
    for started in KillsTheRoot.stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGCONT)  # its nanny ends then, since nobody holds its stdin
    LocalLauncher.close(_holder(LeavesThem.forgotten))
    assert not left_by_this_test()
    assert rule in caught.value.rules
    assert seen in str(caught.value)


def left_by_this_test(seconds=10):
    """Wait, and return the processes that the launchers of this test have started and that still run."""
    deadline = time.monotonic() + seconds
    while (left := _started_here()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _started_here():
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            here = process.environ().get("PYTEST_CURRENT_TEST") == os.environ["PYTEST_CURRENT_TEST"]
            if MARK in process.environ() and here and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _holder(processes):
    """A launcher that ends the processes that another one has left."""
    launcher = LocalLauncher()
    launcher._processes = processes
    return launcher
