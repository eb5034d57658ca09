"""`python -m rlx.proc KIND`: the one command that every process of a run is.

KIND is `controller`, `rollout`, `policy`, or `nanny`, which starts one of them and ends its whole tree. Launchers of
other kinds, and tests, may also say `module:function`: it is called with the boot data, as the others are.

The boot data comes on stdin (see `rlx.boot`), never by environment variables or arguments.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from rlx.boot import read_blob
from rlx.errors import RlxError, UsageError
from rlx.launchers.linux import die_with_parent

if TYPE_CHECKING:
    # At run time only a process that needs it pays for the config schema; the nanny does not.
    from rlx.boot import Boot

MAINS = {
    "controller": "rlx.controller.process:main",
    "rollout": "rlx.rollout.process:main",
    "policy": "rlx.policy.process:main",
}
"""Kind -> `module:function`; the function takes a `Boot` and returns an exit code, or None for 0."""

_STDIN = 0


def main(arguments: list[str]) -> int:
    """Runs what `arguments` name; returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: python -m rlx.proc [{'|'.join(MAINS)}|nanny|MODULE:FUNCTION]\n")
        return UsageError.exit_code
    if arguments[0] == "nanny":
        from rlx.launchers import nanny

        return nanny.main()
    return _run(arguments[0])


def _run(kind: str) -> int:
    die_with_parent()
    _prepare_output()
    from rlx.boot import decode_boot

    try:
        boot = decode_boot(read_blob(_STDIN))
        _close_stdin()
        return _load(kind)(boot) or 0
    except RlxError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code


def _load(kind: str) -> Callable[[Boot], int | None]:
    target = MAINS.get(kind, kind)
    module, colon, name = target.partition(":")
    if not colon:
        raise UsageError(
            f"there is no kind of process {kind!r}: expected one of {', '.join(MAINS)}, or module:function"
        )
    function: Callable[[Boot], int | None] = getattr(importlib.import_module(module), name)
    return function


def _prepare_output() -> None:
    """What a process says must be in its log when it dies a moment later; so must the stack of a crash in C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)
    faulthandler.enable()


def _close_stdin() -> None:
    """Whatever this process starts gets an empty stdin, without the keys."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, _STDIN)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
