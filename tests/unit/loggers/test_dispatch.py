"""Loggers in threads of their own: one that blocks stops neither the caller nor the other loggers."""

from __future__ import annotations

import threading
import time

import pytest

from rlx.loggers import dispatch
from rlx.loggers.base import RunStatus
from rlx.loggers.dispatch import LoggerLimits, Loggers


class Recorder:
    """Notes its calls. `blocks`: a method that waits for `released`, or raises if that is an exception."""

    def __init__(self, blocks="", error=None):
        self.calls, self.released = [], threading.Event()
        self._blocks, self._error = blocks, error

    def _note(self, *call):
        if call[0] == self._blocks:
            if self._error is not None:
                raise self._error
            self.released.wait(30)
        self.calls.append(call)

    def log(self, step, metrics, kind):
        self._note("log", step, kind)

    def status(self, status):
        self._note("status", status.step)

    def close(self, summary):
        self._note("close", summary["status"])


@pytest.fixture
def make(request):
    """`make(limits, *recorders)`: loggers named "0", "1" ...; those that block are released at the end."""

    def make(limits, *recorders):
        for recorder in recorders:
            request.addfinalizer(recorder.released.set)
        return Loggers([(f"logger '{index}'", recorder) for index, recorder in enumerate(recorders)], limits)

    return make


def status(step):
    return RunStatus("running", step, 9, 0.0, "", {})


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("blocks", ["log", "status"])
def test_a_logger_that_blocks_delays_neither_the_caller_nor_the_others(make, blocks):
    stuck, other = Recorder(blocks), Recorder()
    loggers = make(None, stuck, other)
    began = time.monotonic()
    for step in range(3):
        loggers.status(status(step))
        loggers.log(step, {}, "train")
    assert time.monotonic() - began < 1
    until(lambda: ("log", 2, "train") in other.calls)
    assert stuck.calls in ([], [("status", 0)])
    stuck.released.set()
    loggers.close({"status": "done"})
    assert [call for call in stuck.calls if call[0] != "status"] == [
        *(("log", step, "train") for step in range(3)),
        ("close", "done"),
    ]
    assert not loggers.failures


def test_of_the_states_that_wait_only_the_newest_is_passed_on(make):
    logger = Recorder("log")
    loggers = make(None, logger)
    loggers.log(0, {}, "train")
    until(lambda: loggers.overdue() == [] and logger.calls == [])
    time.sleep(0.05)
    for step in range(100):
        loggers.status(status(step))
    logger.released.set()
    loggers.close({"status": "done"})
    assert logger.calls == [("log", 0, "train"), ("status", 99), ("close", "done")]


def test_a_logger_that_raises_is_not_called_again(make):
    failing, other = Recorder("log", OSError("disk full")), Recorder()
    loggers = make(None, failing, other)
    loggers.log(0, {}, "train")
    loggers.log(1, {}, "train")
    loggers.close({"status": "done"})
    assert [(failure.error, failure.owner) for failure in loggers.failures] == [
        ("logger '0': log raised OSError: disk full", "logger '0'")
    ]
    assert failing.calls == []
    assert len(other.calls) == 3


def test_a_call_that_takes_long_is_reported_and_then_given_up(make):
    stuck = Recorder("log")
    loggers = make(LoggerLimits(0.1, 0.5), stuck, Recorder())
    loggers.log(3, {}, "train")
    loggers.log(4, {}, "train")
    warnings = []
    deadline = time.monotonic() + 10
    while not loggers.failures and time.monotonic() < deadline:
        warnings += loggers.overdue()
        time.sleep(0.02)
    assert warnings[0].startswith("logger '0': log has been running for 0 s, and 1 calls wait for it. The run goes on")
    assert 2 <= len(warnings) <= 3, "the time between warnings doubles"
    (failure,) = loggers.failures
    assert failure.error.startswith("logger '0': log has been running for ")
    assert failure.error.endswith("longer than 12 times [run] stall_seconds")
    began = time.monotonic()
    loggers.close({"status": "failed"})
    assert time.monotonic() - began < 1, "the end of the run does not wait for it"


def test_the_end_of_a_run_waits_for_a_logger_for_a_limited_time(make, monkeypatch):
    monkeypatch.setattr(dispatch, "CLOSE_REPORT_SECONDS", 0.1)
    monkeypatch.setattr(dispatch, "CLOSE_SECONDS", 0.3)
    said = []
    loggers = make(None, Recorder("close"), Recorder())
    loggers.close({"status": "done"}, said.append)
    assert said == ["logger '0': close still runs at the end of the run; waiting for it, at most 0.3 s"]
    (failure,) = loggers.failures
    assert failure.error.startswith("logger '0': close still runs at the end of the run after 0.3 s")


def test_calls_that_pile_up_are_a_failure_before_they_fill_the_memory(make, monkeypatch):
    monkeypatch.setattr(dispatch, "MAX_WAITING", 10)
    loggers = make(None, Recorder("log"))
    for step in range(20):
        loggers.log(step, {}, "train")
    (failure,) = loggers.failures
    assert "calls wait for it" in failure.error
