"""`run(plan)`: one run from its directory to its exit code.

The rules of this part:

* What is wrong before a process was started raises UsageError and leaves nothing behind.
* From then on the run always ends in a summary.json and an exit code: 0 done, 1 failed, 130 stopped at once.
* On every way out, every process of the run is dead before `run` returns.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType

import msgspec

from rlx.errors import ProcessDied, RlxError, UsageError, WaitTimeout
from rlx.launch.environment import describe_environment
from rlx.launch.outcome import Outcome, ProcessExit
from rlx.launch.processes import RunProcesses, client_names, spec
from rlx.launch.run_dir import RunDir, make_run_dir, newest_checkpoint, reopen_run_dir, rewind, take_run_dir
from rlx.launch.signals import Signals, signals_ignored
from rlx.launch.supervisor import POLL_SECONDS, Inbox, Supervisor
from rlx.launchers.base import Launcher, ProcessHandle
from rlx.loggers.dispatch import Loggers, OwnedLogger, load_loggers
from rlx.names import (
    CONFIG_FILE,
    ENVIRONMENT_FILE,
    KEYS_FILE,
    LAUNCHER,
    LOOPBACK,
    PLUGINS_FILE,
    PORT_FILE,
    SUMMARY_FILE,
)
from rlx.preflight.plan import RunPlan
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys

CONNECT_SECONDS = 30.0


def run(
    plan: RunPlan,
    *,
    launcher: Launcher | None = None,
    loggers: Callable[[RunPlan, Path], Sequence[OwnedLogger]] | None = None,
    mains: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Returns the exit code. Raises UsageError, or OSError for the directory, where nothing was started.

    `launcher` stands in for the one that the config names, `loggers` makes the loggers for a run directory, and
    `mains` is what `rlx.proc` runs for a kind of process in place of its own.
    """
    run_dir = _open_dir(plan)
    with ExitStack() as undo:
        undo.callback(run_dir.discard)
        cast = _prepare(plan, run_dir, mains)
        places = launcher or plan.plugins.load("launchers", plan.config.run.launcher)()
        fan = Loggers((loggers or _load_loggers)(plan, run_dir.path))
        undo.pop_all()
    try:
        return _run_in(run_dir, cast, places, fan)
    finally:
        run_dir.close()


def _load_loggers(plan: RunPlan, run_dir: Path) -> Sequence[OwnedLogger]:
    return load_loggers(plan.config, plan.plugins, run_dir)


def _open_dir(plan: RunPlan) -> RunDir:
    if plan.resume is not None:
        return reopen_run_dir(plan.resume)
    if plan.run_dir is not None:
        return take_run_dir(plan.run_dir)
    return make_run_dir(Path(plan.config.run.dir), plan.config.run.name)


def _prepare(plan: RunPlan, run_dir: RunDir, mains: Mapping[str, str]) -> RunProcesses:
    """Everything in the directory that is there before the first process."""
    checkpoint = None
    if plan.resume is not None:
        checkpoint = newest_checkpoint(run_dir.path, _say)
        rewind(run_dir.path, checkpoint)
    keys = RunKeys.make(client_names(plan))
    keys.save(run_dir.path / KEYS_FILE)
    run_dir.write_json(CONFIG_FILE, plan.config.model_dump(by_alias=True, mode="json"))
    run_dir.write_json(PLUGINS_FILE, [msgspec.to_builtins(record) for record in plan.plugins.records])
    run_dir.write_json(ENVIRONMENT_FILE, describe_environment(plan.argv, plan.base_dir, plan.script))
    return RunProcesses(plan, run_dir.path, keys, checkpoint, mains)


def _run_in(run_dir: RunDir, cast: RunProcesses, launcher: Launcher, loggers: Loggers) -> int:
    ending = Outcome.failed("the launcher failed; its traceback says how")
    try:
        ending = asyncio.run(_drive(cast, launcher, loggers))
    except RlxError as error:
        ending = Outcome.failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        # In the moments in which the loop does not count signals: too early or too late for a clean end.
        ending = Outcome.killed()
    finally:
        with signals_ignored():
            code = _conclude(run_dir, loggers, _close(launcher, ending))
    return code


def _close(launcher: Launcher, ending: Outcome) -> Outcome:
    try:
        launcher.close()
    except RlxError as error:
        return ending.and_failed(str(error))
    return ending


def _conclude(run_dir: RunDir, loggers: Loggers, ending: Outcome) -> int:
    told = len(loggers.failures)
    ending = _write_summary(run_dir, ending)
    loggers.close(ending.as_summary())
    _say(ending.report(run_dir.path))
    for failure in loggers.failures[told:]:
        _say(failure.error)
    return ending.exit_code or int(len(loggers.failures) > told)


def _write_summary(run_dir: RunDir, ending: Outcome) -> Outcome:
    try:
        run_dir.write_json(SUMMARY_FILE, ending.as_summary())
    except OSError as error:
        return ending.and_failed(f"{run_dir.path / SUMMARY_FILE} cannot be written: {error}")
    return ending


async def _drive(cast: RunProcesses, launcher: Launcher, loggers: Loggers) -> Outcome:
    with Signals() as signals:
        controller = launcher.start(spec(cast.controller()))
        port = await _wait_for_port(cast, controller, signals)
        if port is None:
            return Outcome.killed()
        processes = [controller, *(launcher.start(spec(boot)) for boot in cast.clients(port))]

        def start_again(name: str, attempt: int) -> ProcessHandle:
            return launcher.start(spec(cast.again(name, port, attempt)))

        inbox = Inbox(loggers, _say)
        client = Client(cast.keys.endpoint(LAUNCHER, LOOPBACK, port), LAUNCHER, 1, inbox.take)
        try:
            await _unless_dead(controller, client.connect(CONNECT_SECONDS))
            return await Supervisor(client, processes, start_again, inbox, loggers, signals, _say).watch()
        finally:
            await client.close()


async def _wait_for_port(cast: RunProcesses, controller: ProcessHandle, signals: Signals) -> int | None:
    """Where the controller listens; None where the user stopped the run before that."""
    file, limit = cast.run_dir / PORT_FILE, cast.plan.config.run.start_seconds
    deadline = time.monotonic() + limit
    while not file.exists():
        if signals.count:
            return None
        _check_alive(controller)
        if time.monotonic() > deadline:
            raise WaitTimeout(
                f"the controller did not listen within {limit:g} s (run.start_seconds); see {controller.log}"
            )
        await asyncio.sleep(POLL_SECONDS / 5)
    return int(file.read_text())


async def _unless_dead(controller: ProcessHandle, work: Coroutine[None, None, None]) -> None:
    """Waits for `work`, or raises for the controller's death."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            _check_alive(controller)
        await task
    finally:
        task.cancel()


def _check_alive(controller: ProcessHandle) -> None:
    """Raises UsageError where the controller refused what was asked, ProcessDied where it died otherwise."""
    if (code := controller.poll()) is not None:
        family = UsageError if code == UsageError.exit_code else ProcessDied
        raise family(ProcessExit.of(controller, code).report())


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
