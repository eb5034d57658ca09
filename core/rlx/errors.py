"""Every error that a user of rlx meets, and who answers for it.

Two families, told apart by their exit code:

* `UsageError` (exit code 2): the config, the command line, a plugin or the machine is not fit for the run. Raised
  before anything was started.
* `RunError` (exit code 1): the run had started and could not go on.

A message says what failed in the user's own word, who owns it, and what to do. No traceback is shown without
`--traceback`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


class RlxError(Exception):
    """Base of all errors that are shown to a user as one message."""

    exit_code = 1


class UsageError(RlxError):
    """Something is wrong with what the user asked for; nothing was started."""

    exit_code = 2


class ConfigError(UsageError):
    """The config file, or a `--set`, is wrong."""


class PluginError(UsageError):
    """A component or hook cannot be found, imported, or used as asked."""


class RunError(RlxError):
    """The run started and failed."""


class HookError(PluginError):
    """A hook of an enabled plugin raised while the run was going on."""

    exit_code = 1


class ProcessDied(RunError):  # noqa: N818 - the event is the name
    """A process of the run ended when it should not have."""


class PeerFailed(RunError):  # noqa: N818 - the event is the name
    """Another process of the run refused a request, failed at it, or is not connected."""


class WaitTimeout(RunError, TimeoutError):  # noqa: N818 - as TimeoutError is
    """Something that was waited for did not come; the message names it."""


class DatasetError(UsageError):
    """A dataset cannot be opened, is empty, or holds a row that is no prompt."""


class RewardError(RunError):
    """A reward raised, timed out, or returned something that is no reward.

    `owner` is who answers for it. With `drop` the config asks for the group to be dropped and counted
    (`on_error = "drop"`).
    """

    def __init__(self, message: str, *, owner: str = "", drop: bool = False) -> None:
        super().__init__(message)
        self.owner = owner
        self.drop = drop


class SyncError(RunError):
    """Weights were not delivered, or not as they were sent."""


def owned(text: str, owner: str) -> str:
    """`text`, and who answers for it where it does not say so itself."""
    return f"{text} ({owner})" if owner and owner not in text else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?`, or the empty string where nothing known is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


@contextmanager
def attribute(
    owner: str, doing: str, *, as_: Callable[[str], RlxError] = PluginError, advice: str = ""
) -> Iterator[None]:
    """Boundary to other people's code: whatever it raises becomes an `as_` that names its owner and what it was doing.

    Errors of rlx pass as they are: they say already whose they are. `advice` follows on a line of its own.
    """
    try:
        yield
    except RlxError:
        raise
    except (Exception, SystemExit) as error:  # the boundary: whatever a plugin raises is the plugin's
        raise as_("\n".join(filter(None, [f"{owner}: {doing} raised {described(error)}", advice]))) from error


def described(error: BaseException) -> str:
    """`ValueError: no such row`, for a message."""
    return f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """Return the first line of the error's text, or the name of its class if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
