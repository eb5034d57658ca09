"""How errors are shown. A user's text is never read as markup."""

from __future__ import annotations

import sys
import traceback as tracebacks
from typing import TYPE_CHECKING

from rlx.errors import RlxError

if TYPE_CHECKING:
    from rich.console import Console


def say_error(error: RlxError, *, traceback: bool) -> None:
    """The message alone; with `traceback`, where it came from before it."""
    if traceback:
        tracebacks.print_exception(error)
    _say("error: ", str(error))


def say_bug(error: Exception) -> None:
    """An exception that rlx should have made a message of."""
    tracebacks.print_exception(error)
    _say("bug: ", f"rlx did not expect this {type(error).__name__}. Please report it, with the lines above.")


def say_note(text: str) -> None:
    """Something to know that stops nothing."""
    _say("note: ", text, style="bold yellow")


def wide_console() -> Console:
    """Stdout. Where it is no terminal, lines are not folded at 80 characters: a program or a file reads them."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 240)


def _say(label: str, text: str, style: str = "bold red") -> None:
    if not sys.stderr.isatty():
        # Plain and unwrapped: other programs, and people with grep, read it.
        sys.stderr.write(f"{label}{text}\n")
        return
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True, highlight=False).print(Text(label, style).append(text, "default not bold"))
