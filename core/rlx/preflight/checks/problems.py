"""Collect the problems of a run, so that a user gets all of them at once.

Rules:

* Checks that don't depend on each other are all made. One that needs a result of a check that failed is left out.
* A problem is a UsageError, listed once, however many checks meet it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import ParamSpec, TypeVar

from rlx.errors import UsageError

Args = ParamSpec("Args")
Result = TypeVar("Result")


class Problems:
    """The problems and notes found so far."""

    def __init__(self) -> None:
        self._found: dict[str, UsageError] = {}
        """By its text, in the order of the checks."""
        self.notes: list[str] = []
        """Things that the user should know and that don't stop the run."""

    def __bool__(self) -> bool:
        return bool(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, error: UsageError, where: str = "") -> None:
        """Add a problem. `where` is the place in the config, for an error that doesn't begin with it."""
        text = str(error)
        self._found.setdefault(text if text.startswith(where) else f"{where}: {text}", error)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def collecting(self, where: str = "") -> AbstractContextManager[None, bool]:
        """Return a context that adds the UsageError by which its block ends, if there is one."""
        return _Collecting(self, where)

    def attempt(self, check: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs) -> Result | None:
        """Return the result of `check`; None if it raised a UsageError, which is added."""
        with self.collecting():
            return check(*args, **kwargs)
        return None

    def passes(self, check: Callable[Args, object], *args: Args.args, **kwargs: Args.kwargs) -> bool:
        """Return whether `check` raised no UsageError; one that it raises is added."""
        with self.collecting():
            check(*args, **kwargs)
            return True
        return False

    def passes_at(self, where: str, check: Callable[Args, object], *args: Args.args, **kwargs: Args.kwargs) -> bool:
        """Return whether `check` raised no UsageError, as `passes` does; `where` is the place in the config."""
        with self.collecting(where):
            check(*args, **kwargs)
            return True
        return False

    def stop(self, source: str) -> None:
        """Raise UsageError with all problems, if there are any. `source` is the config file's name."""
        if self._found:
            raise self.error(source)

    def error(self, source: str) -> UsageError:
        """Return the error that lists all problems."""
        texts, errors = list(self._found), list(self._found.values())
        prefix = f"{source}: " if source else ""
        if len(errors) == 1:
            error, cause = UsageError(f"{prefix}{texts[0]}"), errors[0]
            error.__cause__ = cause
            return error
        lines = [f"{number}. {text}".replace("\n", "\n   ") for number, text in enumerate(texts, 1)]
        error = UsageError("\n".join([f"{prefix}{len(errors)} problems", *lines]))
        error.__cause__ = ExceptionGroup("the problems", errors)
        return error


@dataclass(frozen=True)
class _Collecting(AbstractContextManager[None, bool]):
    # A class, since type checkers take it that a `@contextmanager` lets every exception pass.
    problems: Problems
    where: str

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, UsageError):
            return False
        self.problems.add(error, self.where)
        return True
