"""The contract suite of launchers: `check_launcher`.

Rule: a launcher starts real processes, through a nanny, as in a run. They do little, and none is left at the end.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil

from rlx.boot import Boot, Endpoint, encode_boot, frame_blob
from rlx.launchers.base import Launcher, ProcessHandle, ProcessSpec
from rlx.names import SIGNAL_EXIT_CODE
from rlx.testing.stand_ins import processes
from rlx.testing.suites.contract import Broken, Raised, attempt, demand, guarded, name_of

RULES: Mapping[str, str] = MappingProxyType(
    {
        "constructor": "A launcher is a class; one is made without arguments.",
        "methods": "It has `start(process)` and `close()`; the handle that `start` returns has `name`, `pid`, `log`, "
        "`poll()`, `last_lines(count)` and `kill()`.",
        "start": "`start` runs `python -m rlx.proc nanny`, writes all of `process.stdin` to its stdin, and leaves that "
        "open.",
        "poll": "`poll` returns None while the process runs, then its exit code: 128 + n if signal n killed it.",
        "log": "The output is in `process.log`, and `last_lines` returns its end.",
        "kill": "`kill` ends the process and everything that it started, and may be called again.",
        "close": "When `close` returns, nothing is left of what the launcher started.",
    }
)
HANDLE = ("name", "pid", "log", "poll", "last_lines", "kill")
BIG = 300_000
"""Characters of config in the boot data: more than a pipe holds."""
KILLED = SIGNAL_EXIT_CODE + 9


def check_launcher(cls: Callable[[], Launcher], *, timeout_seconds: float = 60.0) -> None:
    """Check a launcher that starts processes on this machine. Raises ContractError with every rule that it breaks.

    timeout_seconds: how long one process may take to start, and to end.
    """
    __tracebackhide__ = True

    def broken() -> Iterator[Broken]:
        if found := list(broken_shape(cls)):
            yield from found
            return
        with tempfile.TemporaryDirectory() as folder:
            launcher = attempt(cls)
            if isinstance(launcher, Raised):
                yield Broken("constructor", str(launcher), "Make it without arguments.")
                return
            yield from _Suite(launcher, Path(folder), timeout_seconds).broken()

    demand(f"launcher {name_of(cls)}", RULES, broken())


def broken_shape(cls: object) -> Iterator[Broken]:
    """Yield a finding for each part of the contract that can be seen to be missing without starting a process."""
    if not inspect.isclass(cls):
        seen = f"it is a {'function' if inspect.isroutine(cls) else type(cls).__name__}"
        yield Broken("constructor", seen, "Write a class with `start` and `close`, and name the class.")
        return
    for name, parameters in (("start", ("process",)), ("close", ())):
        method = getattr(cls, name, None)
        written = f"`def {name}({', '.join(('self', *parameters))})`"
        if not callable(method):
            yield Broken("methods", f"it has no method `{name}`", f"Write {written}.")
            continue
        try:
            inspect.signature(method).bind("self", *parameters)
        except TypeError as error:
            yield Broken("methods", f"`{name}` can't be called like this: {error}", f"Write {written}.")


class _Suite:
    """The checks of one launcher; each method yields findings."""

    def __init__(self, launcher: Launcher, folder: Path, timeout_seconds: float) -> None:
        self._launcher = launcher
        self._folder = folder
        self._timeout = timeout_seconds

    def broken(self) -> Iterator[Broken]:
        left: list[psutil.Process] = []
        try:
            yield from guarded("start", "Start the process, or raise rlx.RunError.", self._ends_by_itself())
            yield from guarded("kill", "End the nanny, which ends its tree.", self._is_killed(left))
            yield from guarded("close", "Kill what is left, and wait for it.", self._is_closed(left))
        finally:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def _ends_by_itself(self) -> Iterator[Broken]:
        handle = self._start("exits")
        if missing := [name for name in HANDLE if not hasattr(handle, name)]:
            yield Broken("methods", f"the handle of `start` has no {', '.join(missing)}", "Add them to the handle.")
            return
        yield from self._ended(handle, processes.CODE, "a process that exited with 7")
        report = self._folder / "exits"
        if not report.exists() or int(report.read_text().split()[0]) < BIG:
            yield Broken("start", f"{BIG} characters of boot data did not arrive whole", "Write all of process.stdin.")
        if processes.LINE not in handle.log.read_text() or handle.last_lines(1) != [processes.LINE]:
            seen = f"the process wrote {processes.LINE!r}; `last_lines(1)` returned {handle.last_lines(1)}"
            yield Broken("log", seen, "Send stdout and stderr to process.log, and read its end.")
        yield from self._ended(self._start("dies"), KILLED, "a process that SIGKILL ended")

    def _is_killed(self, left: list[psutil.Process]) -> Iterator[Broken]:
        handle = self._start("waits", "killed")
        tree = self._tree("killed")
        left += tree
        if (code := handle.poll()) is not None:
            yield Broken("poll", f"of a running process it returned {code}", "Return None while it runs.")
        handle.kill()
        handle.kill()
        if not self._waited(lambda: handle.poll() is not None and not _alive(tree)):
            seen = f"after {self._timeout:g} s, {len(_alive(tree))} of {len(tree)} processes were alive"
            yield Broken("kill", seen, "Send SIGTERM to the nanny, not SIGKILL.")

    def _is_closed(self, left: list[psutil.Process]) -> Iterator[Broken]:
        self._start("waits", "closed")
        tree = self._tree("closed")
        left += tree
        self._launcher.close()
        if alive := _alive(tree):
            yield Broken("close", f"{len(alive)} of {len(tree)} processes were alive after it", "Wait for their ends.")

    def _start(self, function: str, name: str = "") -> ProcessHandle:
        boot = Boot(
            kind=f"{processes.__name__}:{function}",
            name=name or function,
            index=0,
            attempt=1,
            run_dir=str(self._folder),
            base_dir=str(self._folder),
            config={"padding": "x" * BIG},
            plugins=[],
            rollouts=True,
            endpoint=Endpoint("127.0.0.1", 0, "", "", ""),
        )
        return self._launcher.start(ProcessSpec(boot.name, boot.log, frame_blob(encode_boot(boot))))

    def _tree(self, name: str) -> list[psutil.Process]:
        """Wait for the processes of `waits`, and return them. Raises TimeoutError if they don't start."""
        report = self._folder / name
        if not self._waited(report.exists):
            raise TimeoutError(f"after {self._timeout:g} s the process had not started; does stdin stay open?")
        return [psutil.Process(int(pid)) for pid in report.read_text().split()]

    def _ended(self, handle: ProcessHandle, code: int, what: str) -> Iterator[Broken]:
        self._waited(lambda: handle.poll() is not None)
        if (seen := handle.poll()) != code:
            yield Broken("poll", f"of {what} it returned {seen}", f"Return {code}.")

    def _waited(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition is true. Return False if it is still false after the timeout."""
        deadline = time.monotonic() + self._timeout
        while not (done := condition()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return done


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
