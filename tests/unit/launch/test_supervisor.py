"""The supervisor's patience with a controller that is ending the run, and with one that is not."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlx.launch import supervisor
from rlx.launch.silence import Silence
from rlx.launch.supervisor import Inbox, Supervisor, seconds_since_command
from rlx.loggers.dispatch import Loggers
from rlx.transport.messages import ProcessExited, Status


class Handle:
    """A process that runs, or that has ended with `code`."""

    pid, log = 0, Path("x.log")

    def __init__(self, name, code=None):
        self.name, self._code = name, code

    def poll(self):
        return self._code

    def last_lines(self, count):
        return []

    def kill(self): ...


class Sent:
    def __init__(self):
        self.messages = []

    async def notify(self, message):
        self.messages.append(message)


@pytest.fixture
def watched(monkeypatch):
    """A supervisor of a controller that runs and a policy that has died, its inbox, and what it sends."""
    monkeypatch.setattr(supervisor, "VERDICT_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "SETTLE_SECONDS", 0.0)
    controller, sent = Handle("controller"), Sent()
    inbox = Inbox(Loggers([]), print, Silence(controller, 60.0, print))
    signals = SimpleNamespace(count=lambda: 0, take_save=lambda: False, reason="")
    processes = [controller, Handle("policy", 137)]
    return Supervisor(sent, processes, None, inbox, Loggers([]), signals, print), inbox, sent


async def test_a_controller_that_ends_the_run_may_take_its_time_to_save(watched):
    watcher, inbox, sent = watched
    assert await watcher._look() is None
    assert [type(message) for message in sent.messages] == [ProcessExited]
    await inbox.take(Status("draining", 3, 9, 1.0, "policy writes the checkpoint of version 3", {}))
    await asyncio.sleep(0.2)
    assert await watcher._look() is None


async def test_a_controller_that_ignores_a_failure_is_ended(watched):
    watcher, inbox, _ = watched
    assert await watcher._look() is None
    await inbox.take(Status("running", 3, 9, 1.0, "", {}))
    await asyncio.sleep(0.2)
    outcome = await watcher._look()
    assert outcome.error == "the controller did not end the run within 0.1 s of the first failure"


def test_the_age_of_the_launcher_does_not_follow_the_wall_clock(monkeypatch):
    before, now = seconds_since_command(), time.time
    monkeypatch.setattr(time, "time", lambda: now() + 7 * 3600)
    assert before <= seconds_since_command() < before + 60
