"""Main functions of processes that stand in for the real ones. `rlx.proc` imports this module; tests don't."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from rlx.boot import PluginRecord
from rlx.errors import PeerFailed
from rlx.files import write_atomic
from rlx.launchers.local import LocalLauncher
from rlx.plugins.hookspecs import hookimpl
from rlx.transport.client import Client
from rlx.transport.messages import (
    Drain,
    Failed,
    Log,
    ProcessExited,
    RunEnded,
    SaveNow,
    StartAgain,
    Status,
    StepMetrics,
    Stop,
)
from rlx.transport.server import Server

DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


def exit_7(boot):
    print("about to exit")
    return 7


def crash(boot):
    raise KeyError("lost")


def kill_itself(boot):
    os.kill(os.getpid(), signal.SIGKILL)


def echo(boot):
    write_atomic(boot.run_path / "echo", f"{boot.name} {boot.attempt} {sys.stdin.read()!r}")


def process_tree(boot, wait=600):
    """Start a plain child and a daemon that ignores SIGTERM, in a session of its own."""
    daemon = boot.run_path / f"{boot.name}.daemon"
    subprocess.Popen(["sleep", "600"])
    subprocess.Popen([sys.executable, "-c", DAEMON, str(daemon)]).wait()
    while not daemon.exists() or not daemon.read_text():
        time.sleep(0.01)
    write_atomic(boot.run_path / f"{boot.name}.ready", str(os.getpid()))
    time.sleep(wait)


def tree_then_exit(boot):
    process_tree(boot, 0)
    return 3


def blocks():
    time.sleep(600)


def sleeps(boot):
    write_atomic(boot.run_path / "hangs", "")
    blocks()


def hold_the_gil():
    """Hang in C code that keeps the GIL: it locks a mutex twice, which no signal interrupts."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


class Tracker:
    @hookimpl
    def rlx_step_end(self, step):
        hold_the_gil()


def hangs_in_a_hook(boot):
    """Hang in C code of a hook, in the thread of the hooks."""
    from rlx.plugins.hook_thread import HookLimits, HookThread
    from rlx.plugins.hooks import Hooks

    hooks = Hooks([(PluginRecord("hooks", "./tracker.py:Tracker", "", "", "x.py:X", ""), Tracker())])
    write_atomic(boot.run_path / "hangs", "")
    asyncio.run(HookThread(hooks, HookLimits(1, 60), report=print).call("rlx_step_end", step=0, metrics={}))


def launch(boot):
    """Start `process_tree` with a launcher in this process, and wait to be killed."""
    from rlx.launch.processes import process_spec

    LocalLauncher().start(process_spec(msgspec.structs.replace(boot, kind="stand_ins:process_tree")))
    time.sleep(600)


def controller(boot):
    """Act as a controller that behaves as `meta.controller` says."""
    return asyncio.run(_control(boot, boot.config["meta"].get("controller", "end")))


async def _control(boot, mode):
    if mode == "fails to start":
        print("cannot bind")
        return boot.config["meta"]["code"]
    inbox = asyncio.Queue()

    async def receive(name, message):
        await inbox.put((name, message))

    server = Server(boot.endpoint, boot.client_keys, receive)
    port = await server.start()
    if mode == "no port":
        await asyncio.sleep(600)
    print(f"resume from {boot.resume_from}")
    write_atomic(boot.run_path / "controller.port", str(port))
    while len(server.peers()) < len(boot.client_keys):  # noqa: ASYNC110 - the transport has no event for it
        await asyncio.sleep(0.01)
    await server.notify("launcher", Status("running", 0, 2, 0.0, "nothing", {}))
    await server.notify("launcher", StepMetrics(0, {"loss": 1.5}))
    if mode == "exits early":
        return 0
    write_atomic(boot.run_path / "running", "")
    if mode == "hangs":
        blocks()
    if mode == "restarts":
        await _restart(server, inbox, boot.config["meta"]["rollout-1"])
    steps = asyncio.create_task(_report_steps(server)) if mode == "steps" else None
    ended = await _ending(inbox, "end" if mode == "restarts" else mode)
    if steps is not None:
        steps.cancel()
    await server.request("launcher", ended, timeout=5, what="the end of the run")
    for name in boot.client_keys:
        with contextlib.suppress(PeerFailed):
            await server.notify(name, Stop())
    await server.close()
    return int(ended.status == "failed")


async def _report_steps(server):
    """Report a step every few milliseconds, each with more text than a small pipe holds after a few of them."""
    for step in itertools.count(1):
        await server.notify("launcher", StepMetrics(step, {f"eval/{'x' * 300}": 1.0}, "eval"))
        await asyncio.sleep(0.005)


async def _restart(server, inbox, how):
    """Have rollout-1 started again, after it has exited or while it still runs."""
    if how == "exits once":
        _, message = await inbox.get()
        assert (message.name, message.exit_code, message.attempt) == ("rollout-1", 3, 1)
    await server.notify("launcher", StartAgain("rollout-1", 2))
    while server.peers()["rollout-1"].attempt != 2:  # noqa: ASYNC110 - the transport has no event for it
        await asyncio.sleep(0.01)


async def _ending(inbox, mode):
    if mode == "end":
        return RunEnded("done", {"steps": 2})
    if mode == "cannot reach the policy":
        return RunEnded("stopped", {}, untold=["policy"])
    if mode == "fails":
        return RunEnded("failed", {}, "reward 'judge' raised ValueError")
    while True:
        name, message = await inbox.get()
        match message:
            case SaveNow():
                return RunEnded("done", {"reason": message.reason})
            case Drain() if mode != "never ends":
                return RunEnded("done", {"reason": message.reason})
            case ProcessExited() if mode != "never ends":
                return RunEnded(
                    "failed", {}, f"{message.name} is gone: {message.exit_code}, {len(message.last_lines)} lines"
                )
            case Failed():
                return RunEnded("failed", {}, f"{name} says: {message.error}")
            case Log():
                print(message.text)


def client(boot):
    """Act as a policy or replica that behaves as `meta.<name>` says."""
    return asyncio.run(_be_client(boot, boot.config["meta"].get(boot.name, "")))


async def _be_client(boot, mode):
    stopped = asyncio.Event()

    async def receive(message):
        if isinstance(message, Stop) and mode != "ignores stop":
            stopped.set()

    peer = Client(boot.endpoint, boot.name, boot.attempt, receive)
    await peer.connect(30)
    if mode == "exits once" and boot.attempt == 1:
        return 3
    if mode == "is stopped" and boot.attempt == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    if mode == "exits":
        print("\n".join(f"line {number}" for number in range(30)))
        return 3
    if mode == "has child processes" and boot.attempt == 1:
        await asyncio.to_thread(process_tree, boot, 0)
    await stopped.wait()
    await peer.close()
    return 4 if mode == "fails while it stops" else 0


class Recorder:
    """A logger that writes its calls to a file; the method named `failing` raises."""

    def __init__(self, path: Path, failing: str) -> None:
        self.path, self.failing = path, failing

    def _write(self, method, text):
        if method == self.failing:
            raise OSError("disk full")
        with self.path.open("a") as file:
            file.write(f"{method} {text}\n")

    def log(self, step, metrics, kind):
        self._write("log", f"{step} {metrics} {kind}")

    def status(self, status):
        self._write("status", status.state)

    def close(self, summary):
        self._write("close", summary["status"])


def run_plan(path):
    """Run a plan as the launcher's process does: `python -m stand_ins PLAN.json`."""
    from rlx.config.schema import Config
    from rlx.launch.run import run
    from rlx.loggers.console import ConsoleLogger
    from rlx.plugins.hooks import Hooks
    from rlx.plugins.registry import Registry
    from rlx.plugins.session import Plugins
    from rlx.preflight.checks.model_facts import ModelFacts
    from rlx.preflight.plan import RunPlan

    values = msgspec.json.decode(Path(path).read_bytes())
    config = Config.model_validate(values["config"], strict=False)
    plan = RunPlan(
        config=config,
        base_dir=Path(),
        plugins=Plugins([], Hooks(), Registry()),
        rollouts=values["rollouts"],
        facts=ModelFacts(model_type="x"),
    )
    recorder = Recorder(Path("recorded"), config.meta.get("failing_logger_method", ""))
    mains = {"controller": "stand_ins:controller", "policy": "stand_ins:client", "rollout": "stand_ins:client"}

    def loggers(plan, run_dir):
        recorded = [("logger 'recorder'", recorder)]
        return (
            [("logger 'console'", ConsoleLogger(config, run_dir, 2)), *recorded]
            if "console" in config.meta
            else recorded
        )

    folders = {name: Path(values[name]) for name in ("run_dir", "resume") if values[name]}
    return run(plan, **folders, auto=values["auto"], launcher=LocalLauncher(), loggers=loggers, mains=mains)


if __name__ == "__main__":
    sys.exit(run_plan(sys.argv[1]))
