"""The outermost boundary of the command line: every way in which a command can end becomes a message and an exit code.

Rules:

* A traceback and the word "bug" are for mistakes of rlx alone. A file system that refuses, a full disk, a package that
  the base install leaves out and too little memory are the user's to mend: one message, exit code 2.
* Streams that are closed or can't be written to change nothing but what is seen.
"""

from __future__ import annotations

import contextlib
import errno
import faulthandler
import io
import logging
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from rlx.errors import RlxError, UsageError, described, missing_extra
from rlx_cli.messages import say_bug, say_error, say_note, say_verbatim

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})
WHERE = "(--traceback shows where.)"


def exit_code(command: Callable[[], object], *, traceback: bool) -> int:
    """Call a command, which returns its exit code or None; print its error, if it has one, and return its exit code."""
    try:
        code = command()
        sys.stdout.flush()
    except RlxError as error:
        say_error(error, traceback=traceback)
        return error.exit_code
    except typer.TyperException as error:  # an option that does not exist, or a value of the wrong type
        say_verbatim(_shown(error))
        return error.exit_code
    except typer.Abort:  # the user was asked something, and ended the input
        say_verbatim("Aborted!\n")
        return 1
    except BrokenPipeError as error:
        if not _reader_is_gone():
            say_bug(error)
        drop_unwritable_output()
        return 1  # silently, as typer does for what a command prints: `| head` has seen enough
    except (OSError, ImportError, MemoryError) as error:
        message = _refused(error)
        if message is None:
            say_bug(error)
            return 1
        usage = UsageError(message)
        usage.__cause__ = error
        say_error(usage, traceback=traceback)
        return usage.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost boundary: a bug is shown with its traceback
        say_bug(error)
        return 1
    return code if isinstance(code, int) else 0


def open_streams() -> None:
    """Give the process streams that it can write any text to.

    A stream that was closed before the start (`>&-`) is None in Python; it becomes one that discards. Characters that a
    stream's encoding lacks are written as escapes.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Notes(logging.Handler):
    """Shows warnings of rlx's own modules, such as that of an import that hangs, as notes."""

    def emit(self, record: logging.LogRecord) -> None:
        say_note(record.getMessage())


def show_warnings() -> None:
    """Show warnings as notes, and the Python lines of a crash of native code, such as a plugin's, on stderr."""
    logger = logging.getLogger("rlx")
    if not logger.handlers:
        logger.addHandler(_Notes(logging.WARNING))
    if not faulthandler.is_enabled():
        with contextlib.suppress(OSError, ValueError):  # no descriptor: a test's stream
            faulthandler.enable(all_threads=False)


def drop_unwritable_output() -> bool:
    """Return whether stdout can't be written to; if so, discard what is waiting to be written and all that follows."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):  # no descriptor: a test's stream
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.stdout.flush()
        return True
    return False


def _reader_is_gone() -> bool:
    """Return whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no descriptor: a test's stream
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _refused(error: OSError | ImportError | MemoryError) -> str | None:
    """Return the message about an error that isn't a mistake of rlx; None for one that is."""
    if isinstance(error, MemoryError):
        return f"There is too little memory for this. {WHERE}"
    if isinstance(error, ImportError):
        return missing_extra(error) or None
    lost = drop_unwritable_output()
    if error.filename is None:
        # An error of a write has no file name. Without a buffer in between, stdout has nothing left to try again.
        if lost or error.errno in UNWRITABLE:
            return f"The output, or a file, can't be written: {error.strerror}. Is the disk full?"
        return f"{described(error)} {WHERE}"
    paths = " -> ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"{paths}: {error.strerror}. {WHERE}"


def _shown(error: typer.TyperException) -> str:
    text = io.StringIO()
    show = getattr(error, "show", None)
    if show is None:
        return f"Error: {error.format_message()}\n"
    show(file=text)
    return text.getvalue()
