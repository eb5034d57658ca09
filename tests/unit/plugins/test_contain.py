"""Plugins that end the process, interrupt it, or take long while they are imported or made."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from rlx.errors import PluginError
from rlx.plugins import contain
from rlx.plugins.catalog import discover
from rlx.plugins.contain import contained
from rlx.plugins.load import load
from rlx.plugins.options import make
from rlx.plugins.resolve import resolve

WHO = "reward 'bad' (bad-dist 1.0, bad_mod:score)"
LAZY = "def __getattr__(name):\n    raise {error}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import os; os._exit(3)", "its import raised SystemExit: os._exit(3)"),
        ("raise KeyboardInterrupt", "its import raised RuntimeError: KeyboardInterrupt, without a Ctrl-C"),
        ("import sys; sys.exit('no')", "its import raised SystemExit: no"),
        ("raise MemoryError", "its import raised MemoryError"),
        ("def f(): f()\nf()", "its import raised RecursionError"),
        ("class Odd(Exception):\n    def __str__(self): return '\\x1b[31m'\nraise Odd", "its import raised Odd: "),
        (LAZY.format(error="KeyError(name)"), "its import raised KeyError: 'score'"),
        (LAZY.format(error="SystemExit(4)"), "its import raised SystemExit: 4"),
    ],
)
def test_an_import_that_ends_the_process_names_the_plugin(fake_dist, text, message):
    fake_dist("bad-dist", {"rlx.rewards": {"bad": "bad_mod:score"}}, {"bad_mod.py": text})
    with pytest.raises(PluginError) as caught:
        load(resolve("rewards", "bad", discover(), Path()))
    assert str(caught.value).startswith(f"{WHO}: {message}")
    assert os._exit.__module__ == "posix"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: os._exit(3), "its constructor raised SystemExit: os._exit(3)"),
        (lambda: (_ for _ in ()).throw(KeyboardInterrupt), "KeyboardInterrupt, without a Ctrl-C"),
        (lambda: {}["WANDB_API_KEY"], "its constructor raised KeyError: 'WANDB_API_KEY'"),
    ],
)
def test_a_constructor_that_ends_the_process_names_the_plugin(action, message):
    class Made:
        def __init__(self):
            action()

    with pytest.raises(PluginError, match="it: ") as caught:
        make(Made, {}, where="args", owner="it")
    assert message in str(caught.value)


def test_ctrl_c_is_not_an_error_of_the_plugin():
    def interrupted():
        with contained("it", "its import"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_forked_process_ends_as_it_would():
    with contained("it", "its import"):
        child = os.fork()
        if child == 0:
            os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_block_in_another_thread_leaves_the_process_alone():
    end, seen = os._exit, []

    def work():
        with contained("it", "its import"):
            seen.append(os._exit)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [end]


def test_what_takes_long_is_said(monkeypatch, caplog):
    monkeypatch.setattr(contain, "SLOW_SECONDS", 0.05)
    with caplog.at_level(logging.WARNING), contained("reward 'slow' (d 1.0, m:f)", "its import"):
        time.sleep(0.12)
    assert "reward 'slow' (d 1.0, m:f): its import is still going on after 0.05 s." in caplog.messages
    caplog.clear()
    with contained("it", "its import"):
        pass
    assert not caplog.messages
