"""The manifest of a checkpoint: the size and the checksum of each of its files, to find damage before it is used.

Rules:

* It is written when all other files are on disk, and before the rename that commits the checkpoint.
* Every file in it is read as a whole: a flipped bit of a weight is found here and nowhere else.
* Names come from a file that may be damaged: they are compared with names in the folder, and never used as paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from rlx.files import FileSum, file_sum, write_atomic

MANIFEST = "manifest.json"
_READERS = 4
"""Files that are read at a time: hashing one takes a core, and a disk serves several readers."""
_READ_WITHOUT_NAME = ".safetensors"
"""The policy reads all files with this suffix, so one that isn't in the manifest is damage, too."""


class Manifest(msgspec.Struct, frozen=True):
    """The content of `manifest.json`."""

    files: dict[str, FileSum]
    """By path within the checkpoint, with slashes."""

    def write(self, folder: Path) -> None:
        write_atomic(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(self)))


def file_sums(folder: Path, names: Iterable[str]) -> dict[str, FileSum]:
    """Return the sizes and checksums of files in `folder`."""
    return {name: file_sum(folder / name) for name in names}


def damaged_files(folder: Path) -> list[str]:
    """Compare a checkpoint with its manifest; return a sentence for each difference, which begins with the file."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except (OSError, msgspec.MsgspecError) as error:
        return [f"{MANIFEST} can't be read: {error}"]
    if not manifest.files:
        return [f"{MANIFEST} lists no file"]
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    unlisted = sorted(name for name in present.keys() - manifest.files if name.endswith(_READ_WITHOUT_NAME))
    with ThreadPoolExecutor(_READERS) as readers:
        differences = readers.map(
            lambda name: _difference(name, present.get(name), manifest.files[name]), sorted(manifest.files)
        )
        return [found for found in differences if found] + [f"{name} isn't in {MANIFEST}" for name in unlisted]


def _difference(name: str, path: Path | None, wanted: FileSum) -> str:
    if path is None:
        return f"{name} is missing"
    try:
        size = path.stat().st_size
        if size != wanted.bytes:
            return f"{name} has {size:,} bytes instead of {wanted.bytes:,}"
        found = file_sum(path)
    except OSError as error:
        return f"{name} can't be read: {error.strerror or error}"
    return "" if found == wanted else f"{name} is damaged: its content has another checksum than when it was written"
