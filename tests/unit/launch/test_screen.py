from __future__ import annotations

import io
import os
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

import pytest

from rlx.launch import screen
from rlx.launch.screen import safe_screen


@contextmanager
def piped():
    """Make stdout and stderr one pipe, as after `2>&1 | reader`, and yield its reading end.

    No fixture: pytest sets both streams again before the test.
    """
    reader, writer = os.pipe()
    out, error = (os.fdopen(os.dup(writer), "w", encoding=encoding) for encoding in ("utf-8", "ascii"))
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        try:
            with redirect_stdout(out), redirect_stderr(error):
                yield pipe
        finally:
            for stream in (out, error):
                with suppress(BrokenPipeError):
                    stream.close()


def test_lines_of_both_streams_arrive_in_their_order():
    with piped() as pipe:
        sys.stdout.write("before, not flushed\n")
        with safe_screen():
            for number in range(100):
                print("out", number)
                print("error", number, file=sys.stderr)
            print("no newline", end="", flush=True)
        seen = pipe.read(100_000).decode().splitlines()
    expected = [f"{name} {number}" for number in range(100) for name in ("out", "error")]
    assert seen == ["before, not flushed", *expected, "no newline"]


def test_a_character_that_the_encoding_lacks_is_escaped():
    with piped() as pipe:
        with safe_screen():
            print("━ \ud800", file=sys.stderr)
            print("━", sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno() > 2)
        seen = pipe.read(1000).decode().splitlines()
    assert seen == [r"\u2501 \ud800", "━ utf-8 False True"]


def test_a_closed_pipe_raises_nothing_and_the_streams_come_back():
    with piped() as pipe:
        before = sys.stdout, sys.stderr
        with safe_screen():
            pipe.close()
            for _ in range(1000):
                print("x" * 1000)
                print("x" * 1000, file=sys.stderr)
        assert (sys.stdout, sys.stderr) == before


def test_a_reader_that_pauses_delays_nothing_and_then_gets_the_newest_output(monkeypatch):
    monkeypatch.setattr(screen, "FINISH_SECONDS", 0.1)
    got = b""
    with piped() as pipe:
        began = time.monotonic()
        with safe_screen():
            for number in range(10_000):
                print(f"{number:<999}")
        assert time.monotonic() - began < 5
        while not got.rstrip().endswith(b"9999"):
            got += pipe.read(1 << 16)
    assert screen.MAX_WAITING_BYTES / 2 < len(got) < 2 * screen.MAX_WAITING_BYTES


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_streams_that_are_no_files_of_the_system_are_accepted(stream):
    with redirect_stdout(stream):
        with safe_screen():
            print("x")
        assert sys.stdout is stream
    assert stream is None or stream.getvalue() == "x\n"
