from __future__ import annotations

import os
import stat

import pytest

from rlx.files import share_file, write_atomic


@pytest.mark.parametrize("data", ["text", b"bytes"])
def test_write_atomic_replaces_the_whole_file(tmp_path, data):
    path = tmp_path / "x"
    path.write_text("a much longer text that was there before")
    write_atomic(path, data, mode=0o600)
    assert path.read_text() == (data if isinstance(data, str) else data.decode())
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_text("old")

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr("rlx.files.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_new_files_have_the_permissions_of_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        folder = tmp_path / "made"
        folder.mkdir()
        write_atomic(folder / "x", "text")
        (folder / "private").write_text("made by a library")
        (folder / "private").chmod(0o600)
        share_file(folder / "private")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [mode, mode]
