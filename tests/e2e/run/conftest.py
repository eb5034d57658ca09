"""The real `rlx run`, as a user starts it, with all processes that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).parent / "project"
MARK = "RLX_TEST_RUN"
ENVIRONMENT = dict(os.environ)
"""The environment before any test: one that runs in this process may have changed it."""
RLX = Path(sys.executable).parent / "rlx"


class Run:
    """One `rlx run`. Its processes are recognised by a mark in their environment, or by their pids."""

    def __init__(self, args, run_dir, out, *, command=(RLX, "run"), cwd=None):
        self.dir = run_dir
        self._out = out.open("w+")
        self.began = time.monotonic()
        self._calls = out.with_name("calls.jsonl")
        environment = {
            **ENVIRONMENT,
            MARK: str(run_dir),
            "RLX_TEST_CALLS": str(self._calls),
            "HF_HUB_OFFLINE": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
        }
        self.process = psutil.Popen(
            [*command, *args],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
        )
        self._known = set()

    @property
    def output(self):
        """Its stdout and stderr."""
        self._out.seek(0)
        return self._out.read()

    @property
    def summary(self):
        return json.loads((self.dir / "summary.json").read_text())

    def metrics(self, kind="train"):
        lines = [json.loads(line) for line in (self.dir / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]

    def calls(self, *hooks):
        """Return the calls of these hooks, or of all, that the Recorder of project/parts.py wrote down."""
        if not self._calls.exists():
            return []
        calls = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [call for call in calls if not hooks or call["hook"] in hooks]

    def log(self, name):
        path = self.dir / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def below(self):
        """Return all descendants of the run's first process."""
        try:
            found = self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._known.update(found)
        return found

    def find(self, *words):
        """Return the processes whose command line or title contains one of `words`, except for nannies."""
        return [p for p in self.below() if any(word in _words(p) for word in words) and "nanny" not in _words(p)]

    def ranks(self):
        """Return the policy's ranks, in order."""
        return sorted((p for p in self.below() if _name(p).startswith("rlx-rank-")), key=_name)

    def addresses(self):
        """Return the addresses at which processes of the run listen for TCP connections."""
        found = [(process, connection) for process in self.below() for connection in _connections(process)]
        return {(_words(process), connection.laddr.ip) for process, connection in found}

    def until(self, condition, what, seconds=400):
        """Wait until `condition()` is true, and return it. The run must not end before."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, f"the run ended while a test waited for {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.output}"
            time.sleep(0.01)
        self.below()
        return found

    def wait(self, seconds=400):
        """Wait for the end of the run, and return its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                tree = [_words(process) for process in self.below()]
                pytest.fail(f"the run did not end within {seconds} s; {tree}\n{self.output}")
            self.below()
            time.sleep(0.2)
        return self.process.returncode

    def signal(self, number):
        self.process.send_signal(number)

    def survivors(self, seconds=10):
        """Wait up to `seconds` for all processes of the run to end, and return those that are left."""
        deadline = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [_words(process) for process in left]

    def _left(self):
        marked = {process for process in psutil.process_iter() if _mark(process) == str(self.dir)}
        known = {process for process in self._known if process.is_running()}
        return [process for process in marked | known if _lives(process)]

    def kill(self):
        """Kill what is left of the run."""
        self.below()
        for process in [self.process, *self._known]:
            if process.is_running():
                process.kill()

    def close(self):
        self.kill()
        self._out.close()


def _name(process):
    try:
        return process.name()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _connections(process):
    try:
        return [each for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []


def _words(process):
    try:
        return " ".join(process.cmdline()) or process.name()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _mark(process):
    try:
        return process.environ().get(MARK)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def _lives(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _settings(values):
    return [part for key, value in values.items() for part in ("--set", f"{key}={value}")]


@pytest.fixture(scope="session")
def runs():
    """All runs of the session."""
    started = []
    yield started
    for run in started:
        run.close()


@pytest.fixture(autouse=True)
def _end_runs(runs):
    """Kill the runs that a failed test has left: they would slow the next test down."""
    yield
    for run in runs:
        if run.process.poll() is None:
            run.kill()


@pytest.fixture(scope="session")
def start(runs, tmp_path_factory):
    """`start("rl", model, **{"run.steps": 3})`: a Run of project/rl.toml with settings changed."""

    def start_run(config, model, run_dir=None, **settings):
        folder = tmp_path_factory.mktemp(config)
        run_dir = run_dir or folder / "run"
        args = ["--config", PROJECT / f"{config}.toml", "--run-dir", run_dir]
        runs.append(Run([*args, *_settings({"model.path": model, **settings})], run_dir, folder / "output"))
        return runs[-1]

    return start_run


@pytest.fixture(scope="session")
def start_in(runs, tmp_path_factory):
    """`start_in(folder, [config, *arguments], command=..., **settings)`: a Run of a config of that folder."""

    def start_run(folder, arguments, *, command=(RLX, "run"), **settings):
        run_dir = tmp_path_factory.mktemp("run") / "run"
        config, *rest = arguments
        args = ["--config", config, "--run-dir", run_dir, *_settings(settings), *rest]
        runs.append(Run(args, run_dir, run_dir.parent / "output", command=command, cwd=folder))
        return runs[-1]

    return start_run


@pytest.fixture(scope="session")
def resume(runs, tmp_path_factory):
    """`resume(run_dir, *arguments)`: a Run that resumes the one in this directory."""

    def start_run(run_dir, *arguments):
        runs.append(Run(["--resume", run_dir, *arguments], run_dir, tmp_path_factory.mktemp("resumed") / "output"))
        return runs[-1]

    return start_run


@pytest.fixture(scope="session")
def warm_run(start, tiny_model):
    """A finished SFT run with tensor parallelism: the model that RL starts from."""
    run = start("sft", tiny_model, **{"policy.parallel": "{tp = 2}"})
    run.wait()
    return run


@pytest.fixture(scope="session")
def warm(warm_run):
    """The export of `warm_run`, with which RL runs start."""
    assert warm_run.process.returncode == 0, warm_run.output
    return warm_run.dir / "export"


@pytest.fixture(scope="session")
def whole_run(start, warm):
    """A finished synchronous RL run."""
    run = start("rl", warm)
    run.wait()
    return run


@pytest.fixture(scope="session")
def quick_engine():
    """Settings for tests that aren't about the engine: without a worker process it starts sooner."""
    return {"rollout.vllm.distributed_executor_backend": "uni", "eval.limit": 2}


@pytest.fixture(scope="session")
def kill():
    """`kill(processes)`: send SIGKILL to each; the list must not be empty."""

    def send(processes):
        assert processes, "no process to kill"
        for process in processes:
            process.send_signal(signal.SIGKILL)

    return send
