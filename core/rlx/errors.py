"""Every error that a user of rlx sees, and the boundary that turns exceptions of plugins into one.

There are two families, distinguished by their exit code:

* `UsageError` (exit code 2): the config, the command line, a plugin or the machine is not fit for the run. Raised
  before any process is started.
* `RunError` (exit code 1): the run had started and could not continue.

A message names the thing that failed in the user's own words, who owns it, and what to do. Tracebacks are shown with
`--traceback` only.
"""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Literal

_RLX = f"{Path(__file__).parent}{os.sep}"
_STDLIB = f"{Path(os.__file__).parent}{os.sep}"

_TRAIN = ("torch", "transformers", "tokenizers", "safetensors", "datasets", "pyarrow")
_OTHERS = ("tensorboard", "math_verify", "httpx2", "vllm")
_EXTRAS: Mapping[str, str] = MappingProxyType(
    {**dict.fromkeys((*_TRAIN, *_OTHERS), "cpu"), "reasoning_gym": "reasoning-gym"}
)
"""Packages that the base install of rlx leaves out -> the extra that brings them."""


class RlxError(Exception):
    """Base of all errors that are shown to a user as one message."""

    exit_code = 1


class UsageError(RlxError):
    """Something is wrong with the user's request; no process was started."""

    exit_code = 2


class ConfigError(UsageError):
    """The config file, or a `--set`, is wrong."""


class PluginError(UsageError):
    """A component or hook cannot be found, imported, or used as asked."""


class RunError(RlxError):
    """The run started and failed."""


class HookError(PluginError):
    """A hook of an enabled plugin raised during the run."""

    exit_code = 1


class ProcessDied(RunError):  # noqa: N818 - the event is the name
    """A process of the run ended when it should not have."""


class PeerFailed(RunError):  # noqa: N818 - the event is the name
    """Another process of the run refused a request, failed to answer it, or is not connected."""


class WaitTimeout(RunError, TimeoutError):  # noqa: N818 - as TimeoutError is
    """A wait took longer than its limit; the message names what was awaited."""


class DatasetError(UsageError):
    """A dataset cannot be opened, is empty, or has a row that can't be used as a prompt."""


class RewardError(RunError):
    """A reward raised, timed out, or returned a value that isn't a reward.

    owner: the reward's owner, as messages name it.
    drop: the config asks for the group to be dropped and counted (`on_error = "drop"`).
    """

    def __init__(self, message: str, *, owner: str = "", drop: bool = False) -> None:
        super().__init__(message)
        self.owner = owner
        self.drop = drop


BadRowReason = Literal["too_long", "dataset", "packer", "engine", "untrained"]
"""Why a dataset row can't be used, as metrics name it: its tokens don't fit, the dataset raises for it, the packer or
the chat template refuses it, the engine ends its request with an error, it has no token to train on (SFT).
"""


class BadRowError(RunError):
    """A dataset row can't be used; others may be. The config decides whether it is dropped (`on_bad_row`)."""

    def __init__(self, message: str, *, reason: BadRowReason) -> None:
        super().__init__(message)
        self.reason: BadRowReason = reason


class SyncError(RunError):
    """Weights were not delivered, or differ from the weights that were sent."""


@contextmanager
def bad_row(reason: BadRowReason) -> Iterator[None]:
    """Turn an error of rlx, or of a plugin that `attribute` has named, into a BadRowError with its text."""
    try:
        yield
    except (BadRowError, ProcessDied):
        raise
    except RlxError as error:
        raise BadRowError(str(error), reason=reason) from error


@contextmanager
def attribute(
    owner: str,
    doing: str,
    *,
    as_: Callable[[str], RlxError] = PluginError,
    advice: str | Callable[[BaseException], str] = "",
) -> Iterator[None]:
    """Attribute exceptions raised by a block of plugin code to the plugin's owner.

    An exception becomes `as_("<owner>: <doing> raised <type>: <message>")`, with the original as its cause. SystemExit
    is treated likewise, so that a plugin can't end a process. Errors of rlx pass unchanged: their messages already name
    the owner.

    owner: `reward 'judge' (my-dist 1.2, my_mod:judge)`.
    doing: the activity, as in "epoch 3", "its constructor".
    advice: a line appended to the message, or a function that makes it from the exception.
    """
    try:
        yield
    except RlxError:
        raise
    except (Exception, SystemExit) as error:  # the boundary: any exception of a plugin gets its owner
        line = (advice if isinstance(advice, str) else advice(error)) or missing_extra(error)
        raise as_("\n".join(filter(None, [f"{owner}: {doing} raised {described(error)}", line]))) from error


def described(error: BaseException) -> str:
    """Return the type and message of an exception, for use within a message: `ValueError: no such row`."""
    return f"{type(error).__name__}: {error}"


def first_line(error: BaseException) -> str:
    """Return the first line of the error's text, or the name of its class if it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def missing_extra(error: BaseException | None) -> str:
    """Return what to install if a package that the base install leaves out could not be imported; "" otherwise.

    The causes of the error are looked at, too: libraries raise errors of their own about a missing package.
    """
    while error is not None:
        package = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
        if package in _EXTRAS:
            if not isinstance(error, ModuleNotFoundError):
                return f"{package} can't be imported here: {first_line(error)}\nInstall it again: {_install(package)}"
            return f"This needs {package}, which the base install of rlx leaves out: {_install(package)}"
        error = error.__cause__ or error.__context__
    return ""


def _install(package: str) -> str:
    extra = _EXTRAS[package]
    return f'pip install "rlx[{extra}]"' + (', or "rlx[gpu]"' if extra == "cpu" else "")


def foreign_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception's traceback that are neither rlx's nor the standard library's, outermost first.

    They are the lines that the author of a plugin or launch script can act on.
    """
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_RLX, "<frozen"))
        # Without a virtual environment, site-packages is a folder of the standard library.
        and ("site-packages" in frame.filename or not frame.filename.startswith(_STDLIB))
    ]


def owned(text: str, owner: str) -> str:
    """Append ` (owner)` to a message that does not name its owner yet."""
    return f"{text} ({owner})" if owner and owner not in text else text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` with the known name closest to `word`, or "" if none is close."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def abbreviate(names: Sequence[str], count: int = 3) -> str:
    """List the first `count` names and the number of the others: `a, b, c and 4 more`."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
