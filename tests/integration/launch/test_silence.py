"""A controller that hangs is noticed from outside, with the place where it stands, whatever it hangs in."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
import pytest

from rlx.launch.processes import process_spec
from rlx.launch.silence import Silence
from rlx.launchers.local import LocalLauncher

LIMIT = 0.3


@pytest.fixture(autouse=True)
def quick_dump(monkeypatch):
    monkeypatch.setattr("rlx.launch.silence.DUMP_SECONDS", 0.3)


@pytest.fixture
def launcher(living):
    launcher = LocalLauncher()
    yield launcher
    launcher.close()
    assert living() == []


def child_of(process):
    (child,) = psutil.Process(process.pid).children()
    return child.pid


async def ended(process, said):
    """Look until the silence of a process ends the run; return the error."""
    silence = Silence(process, LIMIT, said.append)
    async with asyncio.timeout(20):
        while not (error := await silence.look()):  # noqa: ASYNC110 - as the supervisor does
            await asyncio.sleep(0.05)
    return error


@pytest.mark.parametrize(
    ("main", "places"),
    [
        ("sleeps", ["stand_ins.py", " in blocks", " in sleeps"]),
        (
            "hangs_in_a_hook",
            ["in rlx_step_end", "in hooks plugin './tracker.py:Tracker' (x.py:X): its hook rlx_step_end"],
        ),
    ],
)
async def test_the_place_where_it_stands_is_quoted(launcher, boot, read, main, places):
    process, said = launcher.start(process_spec(boot(main, name="controller"))), []
    read("hangs")
    error = await ended(process, said)
    (report,) = said
    assert report.startswith("the controller has sent nothing for ")
    assert report.endswith(f"If it stays silent, the run ends after {2 * LIMIT:g} s.")
    for text in (report, error):
        assert "([run] heartbeat_seconds = 0.3). It stands at" in text
        assert str(process.log) in text
        for place in places:
            assert place in text
    assert process.poll() is None, "a stack dump does not end a process"


async def test_a_stopped_controller_is_called_stopped(launcher, boot, read):
    process, said = launcher.start(process_spec(boot("sleeps", name="controller"))), []
    read("hangs")
    os.kill(child_of(process), signal.SIGSTOP)
    error = await ended(process, said)
    assert "It is stopped (SIGSTOP) and runs no code until it gets SIGCONT." in said[0]
    assert "It is stopped" in error


async def test_a_controller_that_speaks_again_is_forgiven(launcher, boot, read):
    process, said = launcher.start(process_spec(boot("sleeps", name="controller"))), []
    read("hangs")
    silence = Silence(process, LIMIT, said.append)
    while not said:
        await silence.look()
        await asyncio.sleep(0.05)
    silence.heard()
    assert await silence.look() == ""
    assert said[1].startswith("the controller answers again, after ")
    assert len(said) == 2


async def test_a_launcher_that_was_stopped_itself_blames_nobody(launcher, boot, read, monkeypatch):
    monkeypatch.setattr("rlx.launch.silence.BLOCKED_SECONDS", 0.1)
    process, said = launcher.start(process_spec(boot("sleeps", name="controller"))), []
    silence = Silence(process, LIMIT, said.append)
    await asyncio.sleep(3 * LIMIT)  # as after Ctrl-Z: messages of this time are not read yet
    assert await silence.look() == ""
    assert not said


def test_a_run_whose_controller_hangs_ends(run, living):
    code, output = run.start(controller="hangs", heartbeat_seconds=3.0).end(timeout=30)
    assert code == 1
    assert "If it stays silent, the run ends after 6 s." in output
    assert "rlx run failed: the run is ended, since the controller has sent nothing for " in output
    assert " in blocks" in output
    assert living() == []
    assert run.summary()["status"] == "failed"
