"""Displays that can't be written to, and the signals of a terminal: the run continues, or drains and is reported."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios

import pytest


@pytest.fixture
def display(run):
    """`display(how)`: start a run whose controller reports steps for ever, and whose display fails so once it runs."""
    descriptors = []

    def start(how, **meta):
        reader, writer, prepare = None, None, meta.pop("prepare", None)
        if how == "full disk":
            writer = os.open("/dev/full", os.O_RDWR)
        elif how == "closed terminal":
            reader, writer = pty.openpty()
            prepare = _own_terminal
        else:
            reader, writer = os.pipe()
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        descriptors.extend([reader, writer])
        run.start(rollouts=False, controller="steps", output=writer, prepare=prepare, console=True, **meta)
        os.close(writer)
        if how == "closed terminal":
            os.set_blocking(reader, False)
        run.running()
        if how in {"closed pipe", "closed terminal"}:
            os.close(reader)
        return run

    yield start
    for descriptor in descriptors:
        try:
            os.close(descriptor)
        except (OSError, TypeError):
            continue  # closed already, or there was none


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
