"""The real `rlx run`, as a user starts it: a process with everything below it."""

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
RENDEZVOUS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
RLX = Path(sys.executable).parent / "rlx"


class Run:
    """One `rlx run`. Whatever it starts carries a mark in its environment, and is remembered by its pid."""

    def __init__(self, args, run_dir, out, *, command=(RLX, "run"), cwd=None):
        self.dir = run_dir
        self._out = out.open("w+")
        self.began = time.monotonic()
        self._calls = out.with_name("calls.jsonl")
        # A test of the policy in this process may have joined a world of its own, and left its variables.
        inherited = {name: value for name, value in os.environ.items() if name not in RENDEZVOUS}
        environment = {
            **inherited,
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
        """What the user saw."""
        self._out.seek(0)
        return self._out.read()

    @property
    def summary(self):
        return json.loads((self.dir / "summary.json").read_text())

    def metrics(self, kind="train"):
        lines = [json.loads(line) for line in (self.dir / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if line["kind"] == kind]

    def calls(self, *hooks):
        """What the Recorder of project/parts.py wrote down: of these hooks, or of all."""
        if not self._calls.exists():
            return []
        calls = [json.loads(line) for line in self._calls.read_text().splitlines()]
        return [call for call in calls if not hooks or call["hook"] in hooks]

    def log(self, name):
        path = self.dir / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def below(self):
        """Every process below this run's first one."""
        try:
            found = self.process.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._known.update(found)
        return found

    def find(self, *words):
        """The processes whose command line or title has one of `words`, nannies left out."""
        return [p for p in self.below() if any(word in _words(p) for word in words) and "nanny" not in _words(p)]

    def children_of(self, words):
        """The Python processes that were started by the one with `words` on its command line, oldest first."""
        (parent,) = self.find(words)
        return [
            child for child in sorted(parent.children(), key=lambda child: child.pid) if "spawn_main" in _words(child)
        ]

    def until(self, condition, what, seconds=400):
        """Waits for `condition`, while the run goes on."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.poll() is None, f"the run ended while a test waited for {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"{what} did not come:\n{self.output}"
            time.sleep(0.01)
        self.below()
        return found

    def wait(self, seconds=400):
        """The exit code."""
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
        """What is left of the run, `seconds` after the end of its first process at the latest."""
        deadline = time.monotonic() + seconds
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return [_words(process) for process in left]

    def _left(self):
        marked = {process for process in psutil.process_iter() if _mark(process) == str(self.dir)}
        known = {process for process in self._known if process.is_running()}
        return [process for process in marked | known if _lives(process)]

    def close(self):
        """For a test that failed: nothing is left to the next one."""
        self.below()
        for process in [self.process, *self._known]:
            if process.is_running():
                process.kill()
        self._out.close()


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
def start(tmp_path_factory):
    """`start("rl", model, **{"run.steps": 3})`: a Run of project/rl.toml with settings changed."""
    runs = []

    def begin(config, model, run_dir=None, **settings):
        folder = tmp_path_factory.mktemp(config)
        run_dir = run_dir or folder / "run"
        args = ["--config", PROJECT / f"{config}.toml", "--run-dir", run_dir]
        runs.append(Run([*args, *_settings({"model.path": model, **settings})], run_dir, folder / "output"))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture(scope="session")
def begin(tmp_path_factory):
    """`begin(arguments, cwd=..., command=..., **settings)`: a Run with these words after `rlx run`."""
    runs = []

    def start_run(arguments, *, cwd, command=(RLX, "run"), **settings):
        run_dir = tmp_path_factory.mktemp("begun") / "run"
        config, *rest = arguments
        words = ["--config", config, "--run-dir", run_dir, *_settings(settings), *rest]
        runs.append(Run(words, run_dir, run_dir.parent / "output", command=command, cwd=cwd))
        return runs[-1]

    yield start_run
    for run in runs:
        run.close()


@pytest.fixture(scope="session")
def resume(tmp_path_factory):
    """`resume(run_dir)`: a Run that goes on."""
    runs = []

    def begin(run_dir):
        runs.append(Run(["--resume", run_dir], run_dir, tmp_path_factory.mktemp("resumed") / "output"))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


@pytest.fixture(scope="session")
def warm_run(start, tiny_model):
    """A finished SFT run, of ranks that share a layer's matrices."""
    run = start("sft", tiny_model, **{"policy.parallel": "{tp = 2}"})
    run.wait()
    return run


@pytest.fixture(scope="session")
def warm(warm_run):
    """Its export: the model that RL starts from."""
    assert warm_run.process.returncode == 0, warm_run.output
    return warm_run.dir / "export"


@pytest.fixture(scope="session")
def whole_run(start, warm):
    """A finished RL run: synchronous."""
    run = start("rl", warm)
    run.wait()
    return run


@pytest.fixture(scope="session")
def quick_engine():
    """For tests that are not about the engine: it starts sooner without a worker process of its own."""
    return {"rollout.vllm.distributed_executor_backend": "uni", "eval.limit": 2}


@pytest.fixture(scope="session")
def kill():
    def send(processes):
        assert processes, "there is nothing to kill"
        for process in processes:
            process.send_signal(signal.SIGKILL)

    return send
