"""`python -m rlx.proc KIND`: the command of every process of a run.

KIND is `controller`, `rollout`, `policy`, or `nanny`, which starts one of them and ends its whole tree. Tests and
launchers of other kinds may also pass `module:function`, which is called with the boot data like the others.

Boot data comes on stdin (see `rlx.boot`), never in environment variables or arguments.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from rlx.boot import decode_boot, read_blob
from rlx.errors import RlxError, UsageError
from rlx.launchers.linux import die_with_parent, dump_stacks_on_signal

if TYPE_CHECKING:
    from rlx.boot import Boot

MAINS = {
    "controller": "rlx.controller.process:main",
    "rollout": "rlx.rollout.process:main",
    "policy": "rlx.policy.process:main",
}
"""Kind -> `module:function`; the function takes a `Boot` and returns an exit code, or None for 0."""

_STDIN = 0


def main(arguments: list[str]) -> int:
    """Run the process named by `arguments`; return its exit code."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m rlx.proc [{'|'.join(MAINS)}|nanny|MODULE:FUNCTION]\n")
        return UsageError.exit_code
    # It is the launcher's. A batch system sends it to all processes of a job, and its default is to end them. Children
    # inherit this.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if arguments[0] == "nanny":
        from rlx.launchers import nanny

        return nanny.main()
    return _run(arguments[0])


def _run(kind: str) -> int:
    die_with_parent()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Each line goes into the log at once, so that a process that dies a moment later leaves its last one.
            stream.reconfigure(line_buffering=True)
    faulthandler.enable()  # the stack of a crash in C goes into the log
    dump_stacks_on_signal()
    try:
        boot = decode_boot(read_blob(_STDIN))
        _empty_stdin()
        return _main_of(kind)(boot) or 0
    except RlxError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code


def _main_of(kind: str) -> Callable[[Boot], int | None]:
    target = MAINS.get(kind, kind)
    module, colon, name = target.partition(":")
    if not colon:
        raise UsageError(f"unknown kind of process {kind!r}: expected one of {', '.join(MAINS)}, or module:function")
    function: Callable[[Boot], int | None] = getattr(importlib.import_module(module), name)
    return function


def _empty_stdin() -> None:
    """Give the processes that this one starts an empty stdin, without the keys."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _STDIN)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
