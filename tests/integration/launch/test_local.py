"""The local launcher with real process trees: they end completely, whichever process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import msgspec
import psutil
import pytest

from rlx.boot import encode_boot, frame_blob
from rlx.launch.processes import process_spec
from rlx.launchers.local import LocalLauncher


@pytest.fixture
def launcher(living):
    launcher = LocalLauncher()
    yield launcher
    launcher.close()
    assert living() == []


@pytest.mark.parametrize(("main", "code"), [("exit_7", 7), ("echo", 0), ("crash", 1), ("kill_itself", 128 + 9)])
def test_poll_returns_the_exit_code_of_the_child(launcher, boot, until, main, code):
    process = launcher.start(process_spec(boot(main)))
    until(lambda: process.poll() is not None)
    assert process.poll() == code


def test_boot_data_arrives_and_stdin_is_empty_after_it(launcher, boot, read):
    launcher.start(process_spec(boot("echo", name="rollout-3", attempt=4, config={"big": "x" * 300_000})))
    assert read("echo") == "rollout-3 4 ''"


def test_output_and_tracebacks_are_in_the_log(launcher, boot, until):
    process = launcher.start(process_spec(boot("crash", name="policy")))
    until(lambda: process.poll() is not None)
    assert process.log.name == "policy.log"
    assert process.last_lines(1) == ["KeyError: 'lost'"]
    assert process.last_lines(50)[0].startswith("Traceback")


def test_an_unknown_kind_is_a_usage_error(launcher, boot, until):
    process = launcher.start(process_spec(msgspec.structs.replace(boot("echo"), kind="shepherd")))
    until(lambda: process.poll() is not None)
    assert process.poll() == 2
    assert "unknown kind of process 'shepherd'" in process.last_lines(1)[0]


def test_a_daemon_that_ignores_sigterm_ends_with_its_parent(launcher, boot, until, living, read):
    process = launcher.start(process_spec(boot("tree_then_exit")))
    daemon = int(read("x.daemon"))
    until(lambda: process.poll() is not None)
    assert process.poll() == 3
    assert not psutil.pid_exists(daemon)
    assert living() == []


def test_kill_ends_the_whole_tree(launcher, boot, until, living, read):
    process = launcher.start(process_spec(boot("process_tree")))
    read("x.ready")
    assert len(living()) >= 4
    process.kill()
    until(lambda: process.poll() is not None, 5)
    assert living() == []


def test_a_killed_nanny_leaves_nothing(launcher, boot, until, living, read):
    process = launcher.start(process_spec(boot("process_tree")))
    read("x.ready")
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: process.poll() is not None, 5)
    assert process.poll() == 128 + 9
    until(lambda: living() == [], 5)


def test_the_tree_of_a_stopped_nanny_is_killed_too(launcher, boot, living, read):
    process = launcher.start(process_spec(boot("process_tree")))
    read("x.ready")
    os.kill(process.pid, signal.SIGSTOP)
    launcher.close()
    assert living() == []


@contextmanager
def start_a_launcher(boot):
    """Start a launcher in a process of its own, which starts a `process_tree`; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "rlx.proc", "stand_ins:launch"], stdin=subprocess.PIPE, start_new_session=True
    ) as parent:
        parent.stdin.write(frame_blob(encode_boot(boot("launch"))))
        parent.stdin.flush()
        try:
            yield parent
        finally:
            parent.kill()


def test_a_killed_launcher_leaves_nothing(boot, until, living, read):
    with start_a_launcher(boot) as parent:
        read("x.ready")
        assert len(living()) >= 5
        parent.kill()
        parent.wait()
        until(lambda: living() == [], 5)


def test_other_children_of_this_process_are_left_alone(launcher, boot, until, read):
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            process = launcher.start(process_spec(boot("process_tree")))
            read("x.ready")
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: process.poll() is not None)
            launcher.close()
            assert bystander.poll() is None
        finally:
            bystander.kill()


def test_ctrl_c_in_a_terminal_does_not_reach_the_processes(launcher, boot, read):
    process = launcher.start(process_spec(boot("process_tree")))
    child = int(read("x.ready"))
    sessions = {os.getsid(os.getpid()), os.getsid(process.pid), os.getsid(child)}
    assert len(sessions) == 3


def test_a_process_does_not_outlive_launcher_and_nanny_killed_together(boot, until, living, read):
    """The children of that process stay, since the processes that would kill them are dead; the test kills them."""
    with start_a_launcher(boot) as parent:
        child = int(read("x.ready"))
        [nanny] = [process for process in living() if process.cmdline()[-1] == "nanny"]
        parent.send_signal(signal.SIGSTOP)
        nanny.kill()
        parent.kill()
        until(lambda: child not in [process.pid for process in living()], 5)
    for process in living():
        process.kill()
    until(lambda: living() == [])
