"""The ledger: the state of every group, in SQLite in the run directory.

Rules:

* Groups move leased -> finished -> trained, or leased -> dropped (with the reason).
* Writes are queued and applied by one thread, many in a transaction. A killed process loses at most the
  leases and finished groups of its last moments, which a resume samples again. `flush` comes before a checkpoint
  commits, so a group that the checkpoint has trained never counts as untrained.
* The message of a finished group is stored in two parts: `facts` (without the episodes) and `payload` (the
  episodes). Both are deleted once a committed checkpoint covers its step; until then, a resume may need them.
* The file is a public interface: `PRAGMA user_version` is the version of its format, and it can be read while the run
  continues (WAL).
"""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal

from msgspec import structs

from rlx.errors import RunError
from rlx.files import writing
from rlx.transport.messages import GroupDone, decode, encode

VERSION = 1
# A payload has tens of kilobytes: large pages and a long log (64 MiB) take 40 % less CPU time.
PAGE_BYTES = 16384
WAL_PAGES = 4096
MAX_WRITES = 4096
"""Most writes in one transaction."""
GroupState = Literal["leased", "finished", "trained", "dropped"]

_SCHEMA = f"""
CREATE TABLE groups (
  group_id INTEGER PRIMARY KEY,
  row INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('leased', 'finished', 'trained', 'dropped')),
  lease_version INTEGER NOT NULL,
  oldest_version INTEGER,
  newest_version INTEGER,
  step INTEGER,
  why TEXT
) STRICT;
CREATE TABLE payloads (group_id INTEGER PRIMARY KEY, facts BLOB NOT NULL, payload BLOB NOT NULL) STRICT;
CREATE INDEX groups_by_step ON groups (step) WHERE step IS NOT NULL;
PRAGMA user_version = {VERSION};
"""

_LEASE = "INSERT OR REPLACE INTO groups (group_id, row, state, lease_version) VALUES (?, ?, 'leased', ?)"
_FINISH = "UPDATE groups SET state = 'finished', oldest_version = ?, newest_version = ? WHERE group_id = ?"
_STORE = "INSERT OR REPLACE INTO payloads VALUES (?, ?, ?)"
_TRAIN = "UPDATE groups SET state = 'trained', step = ? WHERE group_id = ?"
_DROP = "UPDATE groups SET state = 'dropped', why = ? WHERE group_id = ?"
_DISCARD = "DELETE FROM payloads WHERE group_id = ?"
_UNTRAIN = "UPDATE groups SET state = 'finished', step = NULL WHERE state = 'trained' AND step >= ?"
_PURGE = "DELETE FROM payloads WHERE group_id IN (SELECT group_id FROM groups WHERE state = 'trained' AND step < ?)"

_Write = tuple[str, tuple[int | str | bytes | None, ...]]


@dataclass(frozen=True)
class LedgerRow:
    """The state of one group in the ledger."""

    group_id: int
    row: int
    state: GroupState
    lease_version: int
    oldest_version: int | None
    newest_version: int | None
    step: int | None
    why: str | None
    stored: bool
    """Whether its message is stored."""


class Ledger:
    """Records groups through one writer thread, which owns the connection.

    `on_error` is called on that thread with the error of a failed write.
    """

    def __init__(self, path: Path, *, on_error: Callable[[RunError], None], resume: bool = False) -> None:
        self._path = path
        self._on_error = on_error
        self._error: RunError | None = None
        with writing(f"the ledger {path}"):
            self._open(resume=resume)
        self._queue: queue.SimpleQueue[_Write | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self._thread.start()

    def lease(self, group_id: int, row: int, version: int) -> None:
        self._queue.put((_LEASE, (group_id, row, version)))

    def finish(self, message: GroupDone, newest: int) -> None:
        """Record a finished group. `newest`: the newest version that may have sampled any of its tokens."""
        facts = encode(structs.replace(message, payload=b"", costs={}, hook_failures={}))
        self._queue.put((_FINISH, (message.oldest_version, newest, message.group_id)))
        self._queue.put((_STORE, (message.group_id, facts, message.payload)))

    def train(self, group_ids: Iterable[int], step: int, *, keep_payloads: bool) -> None:
        """Record that `step` has trained groups.

        With `keep_payloads` their messages are kept until a checkpoint covers the step. A run without intermediate
        checkpoints cannot be resumed from a step, so they are deleted at once.
        """
        ids = list(group_ids)
        for group_id in ids:
            self._queue.put((_TRAIN, (step, group_id)))
        if not keep_payloads:
            for group_id in ids:
                self._queue.put((_DISCARD, (group_id,)))

    def drop(self, group_id: int, why: str) -> None:
        self._queue.put((_DROP, (why, group_id)))

    def purge(self, version: int) -> None:
        """Delete the messages of groups trained by steps before `version`, whose checkpoint is committed."""
        self._queue.put((_PURGE, (version,)))

    def rewind(self, version: int, frontier: int | None) -> None:
        """Return to the checkpoint of `version`: undo later steps, and delete the groups from id `frontier` on."""
        if frontier is not None:
            self._queue.put(("DELETE FROM payloads WHERE group_id >= ?", (frontier,)))
            self._queue.put(("DELETE FROM groups WHERE group_id >= ?", (frontier,)))
        self._queue.put((_UNTRAIN, (version,)))

    def flush(self, timeout: float = 120.0) -> None:
        """Wait until all queued writes are on disk. Raises RunError if a write failed or the wait times out."""
        done = threading.Event()
        self._queue.put(done)
        if not done.wait(timeout):
            raise RunError(f"the ledger {self._path} did not finish writing within {timeout:.0f} s: is its disk stuck?")
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Apply the queued writes and close the file."""
        self._queue.put(None)
        self._thread.join(timeout=120.0)

    def rows(self) -> list[LedgerRow]:
        """Return all groups by id, as of the last flush."""
        with closing(self._reader()) as reader:
            found = reader.execute(
                "SELECT group_id, row, state, lease_version, oldest_version, newest_version, step, why, "
                "EXISTS (SELECT 1 FROM payloads WHERE payloads.group_id = groups.group_id) "
                "FROM groups ORDER BY group_id"
            )
            return [LedgerRow(*fields) for fields in found]

    def stored(self, group_id: int) -> GroupDone | None:
        """Return the message of a finished group; None if it was not kept or has been deleted."""
        with closing(self._reader()) as reader:
            found = reader.execute("SELECT facts, payload FROM payloads WHERE group_id = ?", (group_id,)).fetchone()
        if found is None:
            return None
        message = decode(found[0])
        assert isinstance(message, GroupDone)
        return structs.replace(message, payload=found[1])

    def counts(self) -> dict[str, int]:
        """Return the number of groups in each state. Raises RunError if the file cannot be read."""
        try:
            with closing(self._reader()) as reader:
                return dict(reader.execute("SELECT state, count(*) FROM groups GROUP BY state").fetchall())
        except sqlite3.Error as error:
            raise RunError(f"the ledger {self._path} cannot be read: {error}") from error

    def _reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)

    def _open(self, *, resume: bool) -> None:
        if resume != self._path.exists():
            raise RunError(
                f"cannot resume: {self._path} does not exist"
                if resume
                else f"the run directory belongs to another run: {self._path} exists"
            )
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if not resume:
            self._connection.executescript(_SCHEMA)
        found = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if found != VERSION:
            raise RunError(f"{self._path} has format {found}; this rlx reads format {VERSION}")

    def _write_all(self) -> None:
        closed = False
        while not closed:
            # One item, and those that are queued behind it: they share a transaction.
            batch = [self._queue.get()]
            while len(batch) < MAX_WRITES and batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get())
            writes = [item for item in batch if isinstance(item, tuple)]
            self._apply(writes)
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
            closed = None in batch
        self._connection.close()

    def _apply(self, writes: list[_Write]) -> None:
        if self._error is not None or not writes:
            return
        try:
            self._connection.execute("BEGIN")
            for sql, run in itertools.groupby(writes, key=itemgetter(0)):
                self._connection.executemany(sql, [parameters for _, parameters in run])
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._error = RunError(f"the ledger {self._path} cannot be written: {error}. Is the disk full?")
            self._error.__cause__ = error
            self._on_error(self._error)
