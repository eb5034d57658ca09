"""Read the end of a process's log: its last lines, the exception that ended it, and its last stack dump.

The first exception is the cause: the engine's core fails, then its client because the core is gone, then the replica.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlx.errors import UsageError
from rlx.names import NANNY

LAST_LINES = 10
"""How many lines of a log a message shows, if it shows no exception."""
USAGE_LINES = 30
"""The same after a UsageError, whose message the last lines are."""
SEARCHED_LINES = 2000
"""How many lines of a log are searched for an exception."""
_TAIL_BYTES = 512 * 1024
_SHORT = 20
"""A line of at most this many characters may be in a message by chance."""
_GAP = 25
"""Lines between two exceptions of one failure, or behind the last one, at most."""
_MESSAGE_LINES = 4
_MESSAGE_CHARACTERS = 600

_PREFIX = re.compile(
    r"(?:\([\w-]+ pid=\d+\) |\[rank\d+\]: ?|(?:ERROR|CRITICAL|WARNING|INFO) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] )*"
)
"""vLLM's (`(EngineCore pid=7) ERROR 11-27 06:31:15 [core.py:1512] `) and torch's (`[rank0]: `)."""
_TRACEBACK = "Traceback (most recent call last):"
_BARE = re.compile(
    r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Died|Timeout): \S|Fatal Python error: |  what\(\):  "
)
"""An exception without a traceback; a crash of Python; the text of a C++ exception."""
_END_OF_MESSAGE = re.compile(
    rf"\s*$|{re.escape(_TRACEBACK)}|During handling of |The above exception |\S+:\d+: \w*Warning: "
)
_CONSEQUENCES = re.compile(
    r"(?:\w+\.)*(?:EngineDeadError|KeyboardInterrupt|SystemExit|CancelledError|ChildFailedError|BrokenPipeError)\b"
    r"|RuntimeError: (?:Engine core initialization failed|Worker failed with error|cancelled)"
    r"|Exception: WorkerProc initialization failed"
)
"""Exceptions that follow from another process's or from a request to end."""
_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+) .*\(most recent call first\):$")
"""The first line of a thread in faulthandler's dumps."""
_HOOK = re.compile(r", line \d+ in .*: its hook rlx_\w+$")
"""The frame of a hook: see `rlx.plugins.hooks`."""
_FRAMES = 4
"""How many of a thread's innermost frames a message quotes."""
_RLX_TYPE = re.compile(r"^(?:RunError|ProcessDied|PeerFailed|WaitTimeout|SyncError|RewardError|HookError): ")
"""The type that a process puts before the message of an RlxError."""


@dataclass(frozen=True)
class LogPart:
    """The lines that a process has written to a log since a moment: earlier attempts write to the same file."""

    path: Path
    start: int
    """Size of the file at that moment, in bytes."""

    @classmethod
    def from_now(cls, path: Path) -> LogPart:
        return cls(path, path.stat().st_size if path.exists() else 0)

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """Return the last `count` lines; an empty list if the file doesn't exist."""
        return last_lines(self.path, count, start=self.start)

    def first_exception(self) -> str:
        """Return the exception that ended the process: see `first_exception`."""
        return first_exception(self.last_lines(SEARCHED_LINES))


def last_lines(log: Path, count: int = LAST_LINES, *, start: int = 0) -> list[str]:
    """Return the last `count` lines of a log from byte `start` on; an empty list if the file doesn't exist."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-count:]
    except FileNotFoundError:
        return []


def first_exception(lines: Sequence[str]) -> str:
    """Return the first of the exceptions at the end of a log: `RuntimeError: no such kernel`. "" if there is none.

    Exceptions from long before the end, which the process has survived, don't count, nor do those that are known to
    follow from another one.
    """
    found, end = [], len(lines)
    for first, last, text in reversed(list(_exceptions(lines))):
        if end - last > _GAP:
            break
        found.append(text)
        end = first
    return next((text for text in reversed(found) if not _CONSEQUENCES.match(text)), "")


def last_stack(lines: Sequence[str]) -> list[str]:
    """Return the innermost frames of the newest stack dump in a log; an empty list if there is none.

    They are those of the main thread, and those of the thread in which a hook runs, if there is one: its plugin's name
    is in the frame that has called it. If the nanny has written that the process can't write its stacks, it is that.
    """
    threads: dict[str, list[str]] = {}
    cannot: list[str] = []
    for index, line in enumerate(lines):
        if line.startswith(NANNY):
            cannot = [line.removeprefix(NANNY)]
        elif thread := _THREAD.match(line):
            if thread[1] in threads:  # of an earlier dump
                threads = {}
            cannot = []
            threads[thread[1]] = list(itertools.takewhile(lambda line: line.startswith("  File "), lines[index + 1 :]))
    if cannot or not threads:
        return cannot
    # faulthandler begins with the newest thread: the main thread is the last one of a dump.
    *others, main = threads.values()
    hooks = [frame for thread in others if any(_HOOK.search(frame) for frame in thread) for frame in _innermost(thread)]
    return [*hooks, *_innermost(main)]


def _innermost(frames: list[str]) -> list[str]:
    """Return the first frames, which are the innermost ones; of a thread in which a hook runs, also the hook's."""
    hook = [frame for frame in frames[_FRAMES:] if _HOOK.search(frame)]
    return [*frames[:_FRAMES], *hook]


def _exceptions(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield each exception in a log: the indices of its first and last line, and its type and message."""
    cuts = [match.end() if (match := _PREFIX.match(line)) else 0 for line in lines]
    # The prefix that a logger has put before a line, and the line.
    split = [(line[:cut], line[cut:]) for line, cut in zip(lines, cuts, strict=True)]
    index = 0
    while index < len(split):
        first, text = index, split[index][1]
        if text.startswith(_TRACEBACK):
            # Frames are indented; the first line that isn't has the type and the message.
            index = next((i for i in range(index + 1, len(split)) if split[i][1][:1] not in {"", " "}), len(split))
        elif not _BARE.match(text):
            index += 1
            continue
        if index < len(split):
            count = _message_lines(split, index)
            message = "\n".join(text for _, text in split[index : index + count])
            index += count
            yield first, index, message.removeprefix("  what():  ")[:_MESSAGE_CHARACTERS].rstrip()


def _message_lines(split: Sequence[tuple[str, str]], index: int) -> int:
    """Return how many lines the message that begins at `index` has, as far as it is shown."""
    prefix, _ = split[index]
    count = 1
    for other, text in split[index + 1 : index + _MESSAGE_LINES]:
        if other != prefix or _END_OF_MESSAGE.match(text) or _BARE.match(text):
            break
        count += 1
    return count


def already_reported(lines: Sequence[str], exit_code: int, reported: str) -> bool:
    """Return whether the text `reported` has all that `lines`, the last ones of an ended process's log, would add.

    A UsageError is one message and the last entry of the log, so one line of it that was reported is enough. After any
    other end all lines must have been reported.
    """
    if exit_code == UsageError.exit_code:
        return any(len(line) > _SHORT and line.partition(": ")[2] in reported for line in lines)
    return bool(lines) and all(line in reported or _RLX_TYPE.sub("", line) in reported for line in lines)
