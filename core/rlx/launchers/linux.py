"""Linux features for process trees: subreapers, parent-death signals, and the signal that asks for a stack dump."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

DUMP_SIGNAL = signal.SIGUSR2
"""Makes a process of a run write the stacks of all its threads to stderr, its log."""


def dump_stacks_on_signal() -> None:
    """Write the stacks of all threads to stderr on `DUMP_SIGNAL`, even while Python code can't run.

    The nanny starts processes with the signal blocked: until now it would have ended this one.
    """
    faulthandler.register(DUMP_SIGNAL, all_threads=True)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {DUMP_SIGNAL})


def be_killed_first() -> None:
    """If memory runs out, have the kernel kill this process before others: the run can start it again."""
    with contextlib.suppress(OSError):  # a kernel that forbids it
        Path("/proc/self/oom_score_adj").write_text("1000")


def become_subreaper() -> None:
    """Make descendants whose parents die children of this process. Raises OSError if the kernel refuses."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends. Raises OSError if the kernel refuses."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Set the name of this process in `ps` and `top`, at most 15 bytes; its command line stays the same."""
    _prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()))


def _prctl(option: int, argument: int | ctypes.Array[ctypes.c_char]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
