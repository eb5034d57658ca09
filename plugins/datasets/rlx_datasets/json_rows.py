"""Rows of JSON files, as they are in the file: one object a line, or a list of objects.

Rules:

* Nothing is guessed: text stays text (a date, a number in quotes), keys that a row lacks are absent, and whole numbers
  have all their digits. NaN, which JSON doesn't have, is None.
* All rows are parsed when the files are opened, so that a damaged one is found then. They are parsed again when they
  are read: only the file's bytes are kept, and those of a large file stay on disk.
* Blank lines, byte-order marks and all line ends are accepted, and UTF-16 with a byte-order mark. Files compressed with
  gzip, bzip2 or xz are recognised by their content.
* An error names the file and the line.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import mmap
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

IN_MEMORY = 256 * 2**20
"""Larger files are mapped. A file that is written to during a run would change there."""

_LINE = re.compile(rb"[^\r\n]*[^\s][^\r\n]*")
_DECOMPRESS = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"\x28\xb5\x2f\xfd": "compressed with zstandard"}


class JsonRows:
    """The rows of one or more files, in their order. Raises ValueError for a damaged file, or if there are no rows."""

    def __init__(self, files: Sequence[str | Path]) -> None:
        self._files = [_open(Path(file)) for file in files]
        self._starts = [0]
        for file in self._files:
            self._starts.append(self._starts[-1] + len(file))
        if not len(self):
            raise ValueError(f"no rows: {', '.join(map(str, files))} {'is' if len(files) == 1 else 'are'} empty")
        # A dict keeps the order in which the columns are first met.
        self.column_names = list(dict.fromkeys(column for file in self._files for column in file.columns))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, row = self._find(index)
        return file.row(row)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> str:
        """Return where row `index` is: `data/train.jsonl, line 8`."""
        file, row = self._find(index)
        return file.place(row)

    def _find(self, index: int) -> tuple[_Lines | _List, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._starts, index) - 1
        return self._files[number], index - self._starts[number]


class _Lines:
    """A file with one object a line."""

    def __init__(self, path: Path, data: bytes | mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._spans = [match.span() for match in _LINE.finditer(data)]
        self._numbers = list(self._count_lines())
        columns: dict[str, None] = {}
        for index in range(len(self)):
            columns.update(dict.fromkeys(self.row(index)))
        self.columns = list(columns)

    def __len__(self) -> int:
        return len(self._spans)

    def row(self, index: int) -> dict[str, Any]:
        start, end = self._spans[index]
        try:
            return _object(_parse(self._data[start:end].decode()))
        except ValueError as error:
            raise ValueError(f"{self.place(index)} {_problem(error)}") from error

    def place(self, index: int) -> str:
        return f"{self._path}, line {self._numbers[index]}"

    def _count_lines(self) -> Iterator[int]:
        """Yield the line number of each row."""
        number, end = 1, 0
        ends = b"\n" if self._data.find(b"\n") >= 0 else b"\r"
        for start, stop in self._spans:
            number += self._data[end:start].count(ends)
            end = stop
            yield number


class _List:
    """A file that is one list of objects."""

    def __init__(self, path: Path, found: list[Any]) -> None:
        self._path = path
        self._rows = found
        self.columns = list(dict.fromkeys(column for index in range(len(self)) for column in self.row(index)))

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, index: int) -> dict[str, Any]:
        try:
            return dict(_object(self._rows[index]))
        except ValueError as error:
            raise ValueError(f"{self.place(index)} {error}") from error

    def place(self, index: int) -> str:
        return f"{self._path}, element {index + 1}"


def _open(path: Path) -> _Lines | _List:
    data = _read(path)
    first = next(_LINE.finditer(data), None)
    if first is not None and first.group().lstrip().startswith(b"["):
        return _List(path, _whole(path, data))
    try:
        return _Lines(path, data)
    except ValueError:
        if first is not None and first.group().strip() in {b"{", b'{"'}:  # one object over several lines
            _refuse_one_object(path, data)
        raise


def _read(path: Path) -> bytes | mmap.mmap:
    with path.open("rb") as file:
        head = file.read(8)
        large = path.stat().st_size > IN_MEMORY
        file.seek(0)
        unpack = next((unpack for magic, unpack in _DECOMPRESS.items() if head.startswith(magic)), None)
        archive = next((name for magic, name in _ARCHIVES.items() if head.startswith(magic)), None)
        if archive is not None:
            raise ValueError(f"{path} is {archive}: unpack it first")
        if (
            large
            and unpack is None
            and not head.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        ):
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = file.read()
    try:
        data = data if unpack is None else unpack(data)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ValueError(f"{path} can't be decompressed: {error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16").encode()
    return data.removeprefix(codecs.BOM_UTF8)


def _whole(path: Path, data: bytes | mmap.mmap) -> list[Any]:
    try:
        found = _parse(data[:].decode())
    except ValueError as error:
        raise ValueError(f"{path} {_problem(error)}") from error
    assert isinstance(found, list)
    return found


def _refuse_one_object(path: Path, data: bytes | mmap.mmap) -> None:
    """Raise ValueError if the file is one object over several lines; return if it isn't JSON at all."""
    try:
        found = _parse(data[:].decode())
    except ValueError:
        return
    raise ValueError(
        f"{path} is one object with the keys {', '.join(list(found)[:8])}. Rows are objects, one on each line, or a "
        "list of objects"
    )


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"has the key {twice!r} twice")
    return made


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"is not an object: {value!r:.80}")  # noqa: TRY004 - the file's fault
    return value


def _problem(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"isn't UTF-8: {error}"
    if isinstance(error, json.JSONDecodeError):
        return f"isn't JSON: {error.msg}, at character {error.colno}"
    return str(error)
