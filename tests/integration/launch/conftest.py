"""Boot data for stand-in processes, and fixtures that watch the processes of a test."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from rlx.boot import Boot, Endpoint

FOLDER = "RLX_TEST_FOLDER"


@pytest.fixture
def boot(tmp_path, monkeypatch) -> Callable[..., Boot]:
    """`boot(kind, **fields)`: boot data of a process whose main is `stand_ins.<kind>`, or `kind` itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv(FOLDER, str(tmp_path))

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
    """`until(condition, seconds)`: wait until the condition is true, or fail."""

    def wait(condition: Callable[[], object], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"the condition was still false after {seconds} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def living(tmp_path) -> Iterator[Callable[[], list[psutil.Process]]]:
    """`living()`: the processes that this test has started, by a variable of their environment; daemons too.

    At the end of the test, those that are left are killed.
    """

    def find() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if environment.get(FOLDER) == str(tmp_path):
                found.append(process)
        return found

    yield find
    for process in find():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def read(tmp_path, until) -> Callable[[str], str]:
    """`read(name)`: wait for this file of the test's folder, and return its text."""

    def text(name: str) -> str:
        path: Path = tmp_path / name
        until(path.exists)
        return path.read_text()

    return text


class Run:
    """`rlx run` in a process of its own, in a folder of its own."""

    def __init__(self, folder, until):
        self.folder = folder
        self.dir = folder / "runs" / "job"
        self._until = until

    def start(
        self,
        *,
        rollouts=True,
        run_dir=None,
        resume=None,
        auto=False,
        steps=100,
        start_seconds=60.0,
        heartbeat_seconds=60.0,
        output=subprocess.PIPE,
        terminal=None,
        prepare=None,
        **meta,
    ):
        config = {
            "run": {
                "name": "job",
                "steps": steps,
                "start_seconds": start_seconds,
                "heartbeat_seconds": heartbeat_seconds,
            },
            "model": {"path": "m"},
            "dataset": {"name": "d"},
            "rollout": {"replicas": 2},
            "meta": meta,
        }
        plan = self.folder / "plan.json"
        values = {"config": config, "rollouts": rollouts, "run_dir": run_dir, "resume": resume, "auto": auto}
        plan.write_text(json.dumps(values))
        command = [sys.executable, "-P", "-m", "stand_ins", str(plan)]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdin=terminal,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=prepare,
        )
        return self

    def running(self):
        self._until(lambda: (self.dir / "running").exists(), 60)
        return self

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, timeout=60):
        """Wait for its end; return the exit code and the output."""
        output, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, output

    def summary(self):
        return json.loads((self.dir / "summary.json").read_text())

    def recorded(self):
        return (self.folder / "recorded").read_text().splitlines()


@pytest.fixture
def run(tmp_path, boot, until, living):
    run = Run(tmp_path, until)
    yield run
    run.process.kill()
    run.process.communicate()
    until(lambda: living() == [], 5)
