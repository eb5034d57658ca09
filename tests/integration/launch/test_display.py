"""Displays that can't be written to, and the signals of a terminal: the run continues, or drains and is reported."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios
from pathlib import Path

import pytest

WHERE = "all of it is in "


@pytest.fixture
def display(run):
    """`display(how)`: start a run whose controller reports steps for ever, and whose display fails so once it runs."""
    files = []

    def start(how, prepare=_own_terminal):
        master, terminal = (os.fdopen(descriptor, "rb", buffering=0) for descriptor in pty.openpty())
        reader, writer = (os.fdopen(descriptor, mode) for descriptor, mode in zip(os.pipe(), "rw", strict=True))
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        full = Path("/dev/full").open("w")  # noqa: SIM115 - closed below, with the others
        files.extend([master, terminal, reader, writer, full])
        output = {"closed terminal": terminal, "full disk": full}.get(how, writer)
        run.start(rollouts=False, controller="steps", output=output, terminal=terminal, prepare=prepare, console=True)
        for file in (writer, terminal, full):
            file.close()
        run.running()
        if how == "closed terminal":
            master.close()
        elif how == "closed pipe":
            reader.close()
        run.terminal = master
        return run

    yield start
    for file in files:
        file.close()


def _own_terminal():
    """Make stdin the controlling terminal of this new session, so that the kernel sends SIGHUP when it is closed."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def steps(run):
    return sum(line.startswith("log ") for line in run.recorded())


@pytest.mark.parametrize("how", ["closed pipe", "paused pipe", "full disk"])
def test_a_display_that_cannot_be_written_to_ends_no_run(display, how, until, living):
    run = display(how)
    before = steps(run)
    until(lambda: steps(run) > before + 50)
    assert run.process.poll() is None
    run.signal(signal.SIGINT)
    assert run.process.wait(20) == 0
    assert (run.summary()["status"], run.summary()["reason"]) == ("done", "Ctrl-C in the launcher")
    assert run.recorded()[-1] == "close done"
    assert living() == []
    if how == "closed pipe":
        # Ctrl-C ends `| tee` too: the report goes to the terminal, without the lines of the steps.
        shown = os.read(run.terminal.fileno(), 100_000).decode().splitlines()
        assert shown == [
            "draining: finishing the step and saving; Ctrl-C again stops now",
            f"rlx run done; {WHERE}{run.dir}",
        ]


def test_a_closed_terminal_drains(display, living):
    run = display("closed terminal")
    assert run.process.wait(20) == 0
    assert run.summary()["reason"] == "SIGHUP in the launcher (its terminal was closed)"
    assert living() == []


def test_under_nohup_a_closed_terminal_changes_nothing(display, until):
    run = display("closed pipe", prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    run.signal(signal.SIGHUP)
    before = steps(run)
    until(lambda: steps(run) > before + 50)
    run.signal(signal.SIGTERM)
    assert run.process.wait(20) == 0
    assert run.summary()["reason"] == "SIGTERM in the launcher"
