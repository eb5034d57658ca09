from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from rlx.launch.signals import Signals, signals_ignored, signals_interrupt

INT, TERM, HUP, QUIT = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT
USR1 = signal.SIGUSR1


async def counts(*bursts):
    """Send each burst of signals to this process; return the count after each."""
    found = []
    with Signals() as signals:
        for burst in bursts:
            for number in burst:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.01)
            found.append(signals.count())
    return found


@pytest.mark.parametrize(
    ("bursts", "expected"),
    [
        ([[], []], [0, 0]),
        ([[INT], [INT]], [1, 2]),
        ([[TERM], [INT], [INT]], [1, 2, 3]),
        ([[INT, INT]], [1]),  # `timeout` signals the process and its group
        ([[TERM, HUP], [INT]], [1, 2]),
        ([[HUP], [HUP]], [1, 1]),  # the kernel's and the shell's
        ([[HUP], [TERM]], [1, 2]),
        ([[INT], [HUP], [INT]], [1, 1, 2]),
        ([[QUIT]], [2]),
    ],
)
def test_the_first_signal_asks_for_a_clean_end_and_the_second_for_an_immediate_one(bursts, expected):
    assert asyncio.run(counts(*bursts)) == expected


@pytest.mark.parametrize("number", [HUP, QUIT])
def test_a_signal_that_was_ignored_stays_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert asyncio.run(counts([number])) == [0]
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [INT, TERM, HUP, QUIT])
def test_every_signal_runs_the_clean_up_of_a_run_that_has_not_started(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="in the launcher"), signals_interrupt():
        os.kill(os.getpid(), number)
    with signals_interrupt(), signals_ignored():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


async def saves(*bursts):
    found = []
    with Signals() as signals:
        for burst in bursts:
            for number in burst:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.01)
            found.append((signals.take_save(), signals.count()))
    return found


def test_sigusr1_asks_for_a_checkpoint_and_for_nothing_else():
    assert asyncio.run(saves([], [USR1], [], [USR1, USR1, INT], [])) == [
        (False, 0), (True, 0), (False, 0), (True, 1), (False, 1),
    ]  # fmt: skip


def test_sigusr1_ends_no_run_before_it_starts_and_after_it_ends():
    before = signal.getsignal(USR1)
    with signals_interrupt():
        os.kill(os.getpid(), USR1)
        asyncio.run(saves([USR1]))
        os.kill(os.getpid(), USR1)
        with signals_ignored():
            os.kill(os.getpid(), USR1)
        inherited = "import signal; print(signal.getsignal(signal.SIGUSR1).name)"
        found = subprocess.run([sys.executable, "-c", inherited], check=True, capture_output=True, text=True)
        assert found.stdout == "SIG_DFL\n", "programs that the launcher starts don't inherit it"
    assert signal.getsignal(USR1) is before
