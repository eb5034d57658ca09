from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.testing.probe import probe

GOOD = """
print("noise")

def reward(text, reference=None, *, scale: float = 1.0, **kwargs):
    return scale * len(text)
"""


@pytest.fixture
def report(fake_dist):
    """`report("rewards", text)`: probe `reward` in a module with that text and return the report."""

    def look(kind, text, timeout_seconds=60.0, contract=True):
        fake_dist("some-dist", {f"rlx.{kind}": {"one": "probed_mod:reward"}}, {"probed_mod.py": text})
        record = resolve(kind, "one", discover(), Path())
        return probe(record, contract=contract, timeout_seconds=timeout_seconds)

    return look


def test_a_plugin_is_not_imported_in_this_process(report):
    seen = report("rewards", GOOD)
    assert (seen.error, seen.broken, seen.untested) == ("", "", "")
    assert seen.ok
    assert seen.import_seconds < 60
    assert seen.args_schema["properties"] == {"scale": {"type": "number", "default": 1.0}}
    assert "probed_mod" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import not_there_xyz", "reward 'one' (some-dist 1.0, probed_mod:reward): its import raised Module"),
        ("def rewrad(): ...", "probed_mod has no 'reward'. Did you mean 'rewrad'?"),
        ("import sys; sys.exit(3)", "its import raised SystemExit: 3"),
        ("import os; os._exit(3)", "its import raised SystemExit: os._exit(3)"),
        ("import os; print('last line'); os.kill(os.getpid(), 9)", "was ended by signal SIGKILL\n| last line"),
        ("import os; os.kill(os.getpid(), 11)", "the process that imported it was ended by signal SIGSEGV"),
    ],
)  # fmt: skip
def test_a_failed_import_is_reported(report, text, message):
    seen = report("rewards", text)
    assert message in seen.error
    assert not seen.ok


def test_a_plugin_that_hangs_is_killed_with_its_children(report, tmp_path):
    seen = report(
        "rewards",
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n",
        timeout_seconds=3.0,
    )
    assert seen.error == "took more than 3 s"
    child = int((tmp_path / "child").read_text())
    # A killed process stays visible until its parent has reaped it.
    deadline = time.monotonic() + 5
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(child)


def test_children_and_threads_of_a_plugin_do_not_delay_its_report(report):
    text = "import subprocess, threading, time\nsubprocess.Popen(['sleep', '600'])\n"
    text += "threading.Thread(target=time.sleep, args=[600]).start()\n"
    assert report("rewards", text + GOOD).ok


@pytest.mark.parametrize(
    ("text", "broken", "untested"),
    [
        ("def reward(text, reference=None): return None", "returned None, which is not a reward", ""),
        ("def reward(text, reference, *, url: str): return 1.0", "", "it needs args: url"),
    ],
)
def test_the_contract_is_checked_in_the_other_process(report, text, broken, untested):
    seen = report("rewards", text)
    assert (broken in seen.broken, untested in seen.untested) == (True, True)
    assert (seen.ok, seen.error) == (not broken, "")


def test_without_the_contract_only_the_schema_is_reported(report):
    seen = report("rewards", "def reward(text, reference=None, *, size: int): return None", contract=False)
    assert (seen.broken, seen.untested) == ("", "")
    assert seen.args_schema["required"] == ["size"]


def _is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
