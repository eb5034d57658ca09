from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import pytest

from rlx.launch.boot import Boot, Endpoint
from rlx.launch.local import MARK

MAINS = '''
"""Mains of processes that stand in for the real ones."""
import os, signal, subprocess, sys, time

FORK_AWAY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""

def note(boot, name, text):
    path = os.path.join(boot.run_dir, name)
    with open(path + ".part", "w") as file:
        file.write(text)
    os.rename(path + ".part", path)

def exit_7(boot):
    print("about to leave")
    return 7

def crash(boot):
    raise KeyError("lost")

def killed(boot):
    os.kill(os.getpid(), signal.SIGKILL)

def say(boot):
    note(boot, "said", f"{boot.name} {boot.attempt} {sys.stdin.read()!r}")

def family(boot, wait=600):
    """A child of its own session that forked away and ignores SIGTERM, and a plain child."""
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen([sys.executable, "-c", FORK_AWAY, os.path.join(boot.run_dir, "away")]).wait()
    while not os.path.exists(os.path.join(boot.run_dir, "away")):
        time.sleep(0.01)
    note(boot, "ready", str(os.getpid()))
    time.sleep(wait)

def family_leaves(boot):
    family(boot, 0)
    return 3

def launch(boot):
    """A launcher within a process: it starts `family` and waits to be killed."""
    import msgspec
    from rlx.launch.local import LocalLauncher
    LocalLauncher().start(msgspec.structs.replace(boot, kind="stand_ins:family", name="child"))
    time.sleep(600)
'''


@pytest.fixture
def boot(tmp_path, monkeypatch) -> Callable[..., Boot]:
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "stand_ins.py").write_text(MAINS)
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def make(kind: str, **values) -> Boot:
        kind = kind if ":" in kind else f"stand_ins:{kind}"
        plain = Boot(
            kind=kind,
            name="x",
            index=0,
            attempt=1,
            run_dir=str(tmp_path),
            base_dir=str(tmp_path),
            config={},
            plugins=[],
            rollouts=True,
            endpoint=Endpoint("127.0.0.1", 0, "", "", ""),
        )
        return msgspec.structs.replace(plain, **values)

    return make


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.02)

    return wait


@pytest.fixture
def living(tmp_path) -> Callable[[], list[psutil.Process]]:
    """Every process of the machine that belongs to this test: it has this test's folder in its PYTHONPATH and a
    launcher's mark."""

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if MARK in environment and environment.get("PYTHONPATH") == str(tmp_path / "modules"):
                found.append(process)
        return found

    return find


@pytest.fixture
def read(tmp_path, until) -> Callable[[str], str]:
    def text(name: str) -> str:
        path: Path = tmp_path / name
        until(path.exists)
        return path.read_text()

    return text
