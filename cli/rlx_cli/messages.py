"""Errors and notes on the screen. A user's text is never read as markup."""

from __future__ import annotations

import sys
import traceback as tracebacks
from typing import TYPE_CHECKING

from rlx.errors import RlxError

if TYPE_CHECKING:
    from rich.console import Console


def say_error(error: RlxError, *, traceback: bool) -> None:
    """Print the message; with `traceback`, the traceback before it."""
    if traceback:
        tracebacks.print_exception(error)
    _say("error: ", str(error))


def say_bug(error: Exception) -> None:
    """Print an exception that rlx should have turned into a message."""
    tracebacks.print_exception(error)
    _say("bug: ", f"rlx did not expect this {type(error).__name__}. Please report it, with the lines above.")


def say_note(text: str) -> None:
    """Print a note, which stops nothing."""
    _say("note: ", text, style="bold yellow")


def wide_console() -> Console:
    """Return a console on stdout, as wide as the terminal; 240 characters wide if a program reads the output."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def _say(label: str, text: str, style: str = "bold red") -> None:
    if not sys.stderr.isatty():
        # Plain and unwrapped, for other programs and for grep.
        sys.stderr.write(f"{label}{text}\n")
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(label, style).append(text, "default not bold"))
