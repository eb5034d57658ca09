"""Boot data for stand-in processes, and fixtures that watch the processes of a test."""

from __future__ import annotations

import contextlib
import os
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
