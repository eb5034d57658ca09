"""Errors and notes on the screen. Text of users, plugins and models is never printed raw, nor read as markup."""

from __future__ import annotations

import contextlib
import sys
import traceback as tracebacks
from typing import TYPE_CHECKING

from rlx.errors import RlxError
from rlx.terminal import shortened, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def say_error(error: RlxError, *, traceback: bool) -> None:
    """Print the message; with `traceback`, the traceback before it."""
    if traceback:
        _write("".join(tracebacks.format_exception(error)))
    _say("error: ", str(error))


def say_bug(error: Exception) -> None:
    """Print an exception that rlx should have turned into a message."""
    _write("".join(tracebacks.format_exception(error)))
    _say("bug: ", f"rlx did not expect this {type(error).__name__}. Please report it, with the lines above.")


def say_note(text: str) -> None:
    """Print a note, which stops nothing."""
    _say("note: ", text, style="bold yellow")


def say_verbatim(text: str) -> None:
    """Print text that has its own label and line ends."""
    _write(text)


def say_progress(text: str) -> None:
    """Print what is taking long."""
    _say("... ", text, style="dim")


def wide_console() -> Console:
    """Return a console on stdout, as wide as the terminal; 240 characters wide if a program reads the output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def plain(text: str, style: str = "") -> Text:
    """Return text of others for a table: verbatim, without markup and without characters that a terminal acts on."""
    from rich.text import Text

    return Text(visible(text), style)


def _say(label: str, text: str, style: str = "bold red") -> None:
    if not sys.stderr.isatty():
        # Plain and unwrapped, for other programs and for grep.
        _write(f"{label}{text}\n")
        return
    from rich.console import Console
    from rich.text import Text

    line = Text(label, style).append(shortened(visible(text)), "default not bold")
    with contextlib.suppress(OSError):  # as in _write
        Console(stderr=True, soft_wrap=True, highlight=False).print(line)


def _write(text: str) -> None:
    with contextlib.suppress(OSError):  # There is nowhere left to say that stderr can't be written to.
        sys.stderr.write(shortened(visible(text)))
        sys.stderr.flush()
