from __future__ import annotations

import os
import threading

import pytest

from rlx.boot import frame_blob, read_blob
from rlx.errors import RunError


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        yield reader, file
    os.close(reader)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 1_000_000])
def test_a_blob_is_read_whole_and_following_bytes_stay_unread(pipe, size):
    reader, file = pipe
    blob = os.urandom(size)
    thread = threading.Thread(target=lambda: (file.write(frame_blob(blob) + b"rest"), file.flush()))
    thread.start()
    assert read_blob(reader) == blob
    assert os.read(reader, 10) == b"rest"
    thread.join()


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x05four"])
def test_a_blob_that_ends_early_is_an_error(pipe, sent):
    reader, file = pipe
    file.write(sent)
    file.close()
    with pytest.raises(RunError, match="the process that started this one ended before its boot data was written"):
        read_blob(reader)
