"""The launcher's stdout and stderr during a run: the display never decides over the run.

Rules:

* A write never raises. If the terminal is closed, the reader of the pipe has ended or the disk is full, the rest of the
  output is discarded, and the run continues.
* A write never waits. A thread does the writing, so that a reader that pauses (Ctrl-S, `| less`) delays neither
  metrics nor signals. If too much waits for the reader, the oldest output is discarded.
* If a pipe's reader has ended, what goes to stderr is shown on the terminal itself: Ctrl-C ends `| tee`, too, and the
  report of the run has to appear somewhere.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_WAITING_BYTES = 1024 * 1024
"""Output that may wait for a reader: minutes of a live display."""
FINISH_SECONDS = 3.0
"""How long the end of a run waits for a reader that pauses."""


class Output:
    """One terminal, pipe or file, written to by a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[tuple[bytes, bool]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._writing = False
        self._broken = False
        """Whether a write has failed."""
        self._terminal: int | None = None
        """The terminal in place of a broken pipe, for messages alone."""
        # A daemon, since a write to a reader that pauses may never return.
        threading.Thread(target=self._write_all, name="rlx-screen", daemon=True).start()

    def put(self, data: bytes, *, message: bool) -> None:
        """Write `data` soon. `message`: it is for the terminal if the pipe has no reader any more."""
        with self._changed:
            if self._is_lost(message=message):
                return
            self._waiting.append((data, message))
            self._size += len(data)
            while self._size > MAX_WAITING_BYTES:
                self._size -= len(self._waiting.popleft()[0])
            self._changed.notify_all()

    def finish(self, seconds: float) -> None:
        """Wait until everything is written, at most `seconds`."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (self._waiting or self._writing) and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._waiting:
                    self._changed.wait()
                data, message = self._waiting.popleft()
                self._size -= len(data)
                self._writing = True
            if not self._broken:
                self._write(data, message=message)
            elif not self._is_lost(message=message):
                self._show(data)

    def _write(self, data: bytes, *, message: bool) -> None:
        rest = data
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            # EPIPE, EIO (the terminal is closed), ENOSPC: there is nobody left to show an error to.
            with self._changed, contextlib.suppress(OSError):
                self._broken = True
                if error.errno == errno.EPIPE:
                    # The terminal that controls this process; there may be none.
                    self._terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
            if not self._is_lost(message=message):
                self._show(data)

    def _show(self, data: bytes) -> None:
        """Write to the terminal, unless this process runs in its background: that could stop the process."""
        assert self._terminal is not None
        with contextlib.suppress(OSError):
            if os.tcgetpgrp(self._terminal) == os.getpgrp():
                os.write(self._terminal, data)

    def _is_lost(self, *, message: bool) -> bool:
        return self._broken and (self._terminal is None or not message)


class _Raw(io.RawIOBase):
    """The file under a replaced sys.stdout or sys.stderr."""

    def __init__(self, output: Output, descriptor: int, *, message: bool) -> None:
        self._output = output
        self._descriptor = descriptor
        self._message = message

    def write(self, data: Buffer) -> int:
        copy = bytes(data)
        self._output.put(copy, message=self._message)
        return len(copy)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


@contextmanager
def safe_screen() -> Iterator[None]:
    """Replace sys.stdout and sys.stderr in this block by files whose writes neither raise nor wait.

    Streams that are no files of the system (a test's StringIO) stay as they are.
    """
    before = sys.stdout, sys.stderr
    outputs: dict[tuple[int, int], Output] = {}
    sys.stdout, sys.stderr = _safe(before[0], outputs), _safe(before[1], outputs, message=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for output in outputs.values():
            output.finish(FINISH_SECONDS)


def _safe(stream: TextIO | None, outputs: dict[tuple[int, int], Output], *, message: bool = False) -> TextIO:
    """Return a safe file on the descriptor of `stream`; `outputs` has those of this block so far, by device and inode.

    `2>&1` shares one of them, which keeps the order of lines. `message`: see `Output.put`.
    """
    if stream is None:
        # Python's sys.stdout if the descriptor is closed, as by the shell's `>&-`.
        return io.StringIO()
    with contextlib.suppress(OSError, ValueError):
        stream.flush()
    try:
        descriptor = stream.fileno()
        state = os.fstat(descriptor)
    except (OSError, ValueError):
        return stream
    key = state.st_dev, state.st_ino
    if key not in outputs:
        outputs[key] = Output(descriptor)
    raw = io.BufferedWriter(_Raw(outputs[key], descriptor, message=message))
    # backslashreplace: a completion may have characters that the terminal's encoding lacks.
    return io.TextIOWrapper(raw, encoding=stream.encoding, errors="backslashreplace", line_buffering=True)
