"""`run(plan)`: one run from its directory to its exit code.

Rules:

* An error before the first process is started raises UsageError and leaves nothing behind.
* From then on a run always ends with a summary.json and an exit code: 0 done, 1 failed, 130 stopped at once.
* Whenever `run` returns, every process of the run has ended.
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

from rlx.controller.records.checkpoint import newest, version_of
from rlx.errors import ProcessDied, RlxError, UsageError, WaitTimeout, described
from rlx.launch.changes import check_steps, check_unchanged, record_changes
from rlx.launch.environment import describe_environment
from rlx.launch.outcome import Outcome, ProcessExit
from rlx.launch.processes import RunProcesses, client_names, process_spec
from rlx.launch.run_dir import (
    RunDir,
    continue_run_dir,
    default_run_dir,
    make_run_dir,
    newest_checkpoint,
    reopen_run_dir,
    rewind,
    start_over,
    steps_done,
    take_run_dir,
)
from rlx.launch.screen import safe_screen
from rlx.launch.signals import Signals, signals_ignored, signals_interrupt
from rlx.launch.silence import Silence, stack_of
from rlx.launch.supervisor import POLL_SECONDS, Inbox, Supervisor, seconds_since_command
from rlx.launchers.base import Launcher, ProcessHandle
from rlx.launchers.make import make_launcher
from rlx.loggers.base import RunStatus
from rlx.loggers.dispatch import LoggerLimits, Loggers, OwnedLogger, make_logger
from rlx.names import (
    CHECKPOINTS,
    CONFIG_FILE,
    CONTROLLER,
    ENVIRONMENT_FILE,
    KEYS_FILE,
    LAUNCHER,
    LOOPBACK,
    PLUGINS_FILE,
    PORT_FILE,
    SUMMARY_FILE,
)
from rlx.preflight.checks.problems import Problems
from rlx.preflight.plan import RunPlan
from rlx.preflight.trials.objects import PLACES
from rlx.terminal import visible
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys
from rlx.transport.messages import StartAgain

CONNECT_SECONDS = 30.0
STATUS_SECONDS = 0.3
"""How often loggers get the run's state before the controller reports it."""


def run(
    plan: RunPlan,
    *,
    run_dir: Path | None = None,
    resume: Path | None = None,
    auto: bool = False,
    argv: Sequence[str] = (),
    launcher: Launcher | None = None,
    loggers: Callable[[RunPlan, Path], Sequence[OwnedLogger]] | None = None,
    mains: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Carry out a run; return its exit code.

    run_dir: the directory to use. Default: a new one below `run.dir`.
    resume: the directory of an earlier run, to resume there from its newest checkpoint.
    auto: whether to resume the run that has the directory, if there is one; the default directory is then always
        `run.dir/run.name`.
    argv: the command line, for environment.json.
    launcher: in place of the one that the config names.
    loggers: makes the loggers for a run directory, in place of those that the config names.
    mains: kind of process -> `module:function` for `rlx.proc` to run in place of that kind's own.

    Raises UsageError if no process was started.
    """
    with safe_screen(), signals_interrupt(), ExitStack() as undo:
        if resume is not None:
            directory = reopen_run_dir(resume)
        elif auto:
            directory = continue_run_dir(run_dir or default_run_dir(plan.config))
        elif run_dir is not None:
            directory = take_run_dir(run_dir)
        else:
            directory = make_run_dir(Path(plan.config.run.dir), plan.config.run.name)
        undo.callback(directory.discard)
        done = None if directory.fresh else steps_done(directory.path)
        if auto and done is not None and done >= plan.config.run.steps:
            _say(f"{directory.path} is done: {done} steps. There is nothing to resume.")
            return 0
        checkpoint = None if directory.fresh else newest_checkpoint(directory.path, _say)
        if checkpoint is not None:
            check_steps(plan.config, checkpoint)
            check_unchanged(plan.config, checkpoint, plan.source)
            rewind(directory.path, checkpoint)
        elif done is not None:
            raise UsageError(
                f"{directory.path} has no checkpoint to resume from, and its run is done. Set checkpoint.every to have "
                "some, and start again in another directory."
            )
        elif not directory.fresh:  # before loggers are made, whose files must stay
            moved = start_over(directory.path)
            _say(f"No checkpoint yet: the run starts over from step 0. Files of the earlier attempt: {moved}")
        launcher, owned = _make_objects(plan, directory.path, launcher, loggers)
        dispatch = Loggers(owned, LoggerLimits.of(plan.config.run))
        keys = _write_start_files(plan, directory, argv, checkpoint)
        processes = RunProcesses(plan, directory.path, keys, checkpoint, mains)
        undo.pop_all()
        undo.callback(directory.close)
        if checkpoint is not None:
            steps = f"step {version_of(checkpoint)} of {plan.config.run.steps}"
            _say(f"continues from {CHECKPOINTS}/{checkpoint.name}: {steps}")
        return _run_processes(directory, processes, launcher, dispatch)


def _make_objects(
    plan: RunPlan,
    run_dir: Path,
    launcher: Launcher | None,
    loggers: Callable[[RunPlan, Path], Sequence[OwnedLogger]] | None,
) -> tuple[Launcher, list[OwnedLogger]]:
    """Return the given launcher and loggers, or those that the config names.

    Raises UsageError, as the preflight does, with every one that can't be made.
    """
    problems, owned = Problems(), list(loggers(plan, run_dir)) if loggers is not None else []
    with problems.collecting(PLACES["launchers"]):
        launcher = launcher or make_launcher(plan.config, plan.plugins)
    for name in plan.config.run.loggers if loggers is None else ():
        with problems.collecting(PLACES["loggers"]):
            owned.append(make_logger(name, plan.config, plan.plugins, run_dir))
    problems.stop(plan.source)
    assert launcher is not None, "without one there is a problem"
    return launcher, owned


def _write_start_files(plan: RunPlan, run_dir: RunDir, argv: Sequence[str], checkpoint: Path | None) -> RunKeys:
    """Write the files that must exist before the first process starts; return the run's keys."""
    keys = RunKeys.make(client_names(plan))
    keys.save(run_dir.path / KEYS_FILE)
    record_changes(run_dir, plan.config, checkpoint, _say)
    run_dir.write_json(CONFIG_FILE, plan.config.model_dump(by_alias=True, mode="json"))
    run_dir.write_json(PLUGINS_FILE, [msgspec.to_builtins(record) for record in plan.plugins.records])
    run_dir.write_json(ENVIRONMENT_FILE, describe_environment(argv, plan.base_dir, plan.script))
    return keys


def _run_processes(run_dir: RunDir, processes: RunProcesses, launcher: Launcher, loggers: Loggers) -> int:
    outcome = Outcome.failed("the launcher failed; see its traceback")
    try:
        outcome = asyncio.run(_start_and_watch(processes, launcher, loggers))
    except RlxError as error:
        outcome = Outcome.failed(str(error), error.exit_code)
    except OSError as error:  # of the file system or the network, and not a mistake of rlx
        outcome = Outcome.failed(described(error))
    except KeyboardInterrupt:
        # Outside of the time in which the event loop counts signals: too early or too late for a clean end.
        outcome = Outcome.killed("a signal in the launcher")
    finally:
        with signals_ignored():
            try:
                launcher.close()
            except RlxError as error:
                outcome = outcome.with_error(str(error))
            code = _conclude(run_dir, loggers, outcome)
    return code


def _conclude(run_dir: RunDir, loggers: Loggers, outcome: Outcome) -> int:
    """Write summary.json, close the loggers and report; return the exit code."""
    # Failures up to here were reported to the controller, which has ended the run for them.
    handled = len(loggers.failures)
    saved = newest(run_dir.path)
    summary = {**outcome.as_summary(), "saved_step": None if saved is None else version_of(saved)}
    try:
        run_dir.write_json(SUMMARY_FILE, summary)
    except OSError as error:
        outcome = outcome.with_error(f"{run_dir.path / SUMMARY_FILE} cannot be written: {error}")
    loggers.close({**summary, **outcome.as_summary()}, _say)
    _say(outcome.report(run_dir.path))
    for failure in loggers.failures[handled:]:
        _say(failure.error)
    return outcome.exit_code or int(len(loggers.failures) > handled)


async def _start_and_watch(processes: RunProcesses, launcher: Launcher, loggers: Loggers) -> Outcome:
    with Signals() as signals:
        controller = launcher.start(process_spec(processes.controller()))
        port = await _wait_for_port(processes, controller, signals, loggers)
        if port is None:
            return Outcome.killed(signals.reason)
        started = [controller, *(launcher.start(process_spec(boot)) for boot in processes.clients(port))]

        def restart(order: StartAgain) -> ProcessHandle:
            return launcher.start(process_spec(processes.restart(order, port)))

        silence = Silence(controller, processes.plan.config.run.heartbeat_seconds, _say)
        inbox = Inbox(loggers, _say, silence)
        client = Client(processes.keys.endpoint(LAUNCHER, LOOPBACK, port), LAUNCHER, 1, inbox.take)
        try:
            await _unless_ended(controller, client.connect(CONNECT_SECONDS))
            return await Supervisor(client, started, restart, inbox, loggers, signals, _say).watch()
        finally:
            await client.close()


async def _wait_for_port(
    processes: RunProcesses, controller: ProcessHandle, signals: Signals, loggers: Loggers
) -> int | None:
    """Return the controller's port once it listens; None if the user stopped the run before that."""
    file, limit = processes.run_dir / PORT_FILE, processes.plan.config.run.start_seconds
    deadline = time.monotonic() + limit
    shown_at = float("-inf")
    while not file.exists():
        if signals.count():
            return None
        _check_alive(controller)
        if time.monotonic() > deadline:
            frames = await stack_of(controller)
            raise WaitTimeout(
                "\n".join(
                    [
                        f"the controller did not listen within {limit:g} s (run.start_seconds); see {controller.log}",
                        *frames,
                    ]
                )
            )
        if time.monotonic() - shown_at >= STATUS_SECONDS:
            shown_at = time.monotonic()
            # The state of a run whose controller can't report it yet.
            first = 0 if processes.resume_from is None else version_of(processes.resume_from)
            steps, doing = processes.plan.config.run.steps, {CONTROLLER: "starts"}
            now = seconds_since_command()
            loggers.status(RunStatus("starting", first, steps, 0.0, "", {}, processes=doing, elapsed=now))
        await asyncio.sleep(POLL_SECONDS / 5)
    return int(file.read_text())


async def _unless_ended(controller: ProcessHandle, work: Coroutine[None, None, None]) -> None:
    """Wait for `work`. Raises like `_check_alive` if the controller ends first."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            _check_alive(controller)
        await task
    finally:
        task.cancel()


def _check_alive(controller: ProcessHandle) -> None:
    """Raise UsageError if the controller refused the run, ProcessDied if it ended otherwise."""
    if (code := controller.poll()) is not None:
        family = UsageError if code == UsageError.exit_code else ProcessDied
        raise family(ProcessExit.of(controller, code).report())


def _say(text: str) -> None:
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()
