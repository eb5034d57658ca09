"""The ledger: the state of every group, in SQLite in the run directory.

Rules:

* Groups move leased -> finished -> trained, or leased -> dropped (with the reason).
* Writes are queued and applied by one thread, many in a transaction. A killed process loses at most the
  leases and finished groups of its last moments, which a resume samples again. `flush` puts them on disk, and comes
  before a checkpoint commits.
* No resume depends on it: the checkpoint knows which groups are trained (resume.py). A ledger that is missing or
  damaged is replaced by an empty one, and the damaged file is kept under another name.
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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import structs

from rlx.errors import RunError
from rlx.files import disk_question, sync_file, sync_folder, writing
from rlx.transport.messages import GroupDone, decode, encode

VERSION = 1
DAMAGED = ".damaged"
RESTORED = "trained or dropped before the checkpoint of step {}, by that checkpoint: the ledger had lost the group"
"""The reason of a trained group whose step is unknown."""
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
_CLOSE = "INSERT OR REPLACE INTO groups (group_id, row, state, lease_version, why) VALUES (?, ?, 'trained', 0, ?)"
_UNTRAIN = "UPDATE groups SET state = 'finished', step = NULL, why = NULL WHERE group_id = ?"
_PURGE = "DELETE FROM payloads WHERE group_id IN (SELECT group_id FROM groups WHERE state = 'trained' AND step < ?)"

_SELECT = (
    "SELECT group_id, row, state, lease_version, oldest_version, newest_version, step, why, "
    "EXISTS (SELECT 1 FROM payloads WHERE payloads.group_id = groups.group_id) FROM groups ORDER BY group_id"
)
LOG = "-wal"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # the last: a table is missing

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


def read_rows(reader: sqlite3.Connection) -> list[LedgerRow]:
    """Return all groups of a ledger by id."""
    return [LedgerRow(*fields) for fields in reader.execute(_SELECT)]


class Ledger:
    """Records groups through one writer thread, which owns the connection.

    `on_error` is called on that thread with the error of a failed write. `resume`: the run has one already; if that
    is missing or damaged, `repaired` says so.
    """

    def __init__(self, path: Path, *, on_error: Callable[[RunError], None], resume: bool = False) -> None:
        self._path = path
        self._on_error = on_error
        self._error: RunError | None = None
        self.repaired = ""
        with writing(f"the ledger {path}"):
            self._open(resume=resume)
        self._queue: queue.SimpleQueue[_Write | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self._thread.start()

    def lease(self, group_id: int, row: int, version: int) -> None:
        self._queue.put((_LEASE, (group_id, row, version)))

    def finish(self, message: GroupDone, newest: int, *, store: bool = True) -> None:
        """Record a finished group. `newest`: the newest version that may have sampled any of its tokens.

        store: whether to keep the message, for a resume.
        """
        if not store:
            self._queue.put((_FINISH, (message.oldest_version, newest, message.group_id)))
            return
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

    def rewind(
        self,
        version: int,
        *,
        next_id: int,
        finished: Iterable[int],
        leased: Mapping[int, int],
        closed: Mapping[int, int],
    ) -> None:
        """Return to the checkpoint of `version`, and delete the groups from id `next_id` on.

        finished: groups whose messages the resume uses.
        leased: group -> row, of those to sample again.
        closed: group -> row, of those that the checkpoint has trained or dropped although the ledger does not know it.
        """
        self._queue.put(("DELETE FROM payloads WHERE group_id >= ?", (next_id,)))
        self._queue.put(("DELETE FROM groups WHERE group_id >= ?", (next_id,)))
        for group_id in finished:
            self._queue.put((_UNTRAIN, (group_id,)))
        for group_id, row in leased.items():
            self._queue.put((_LEASE, (group_id, row, version)))
        for group_id, row in closed.items():
            self._queue.put((_CLOSE, (group_id, row, RESTORED.format(version))))
        for group_id in (*leased, *closed):
            self._queue.put((_DISCARD, (group_id,)))

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
            return read_rows(reader)

    def stored(self, group_id: int) -> GroupDone | None:
        """Return the message of a finished group; None if it was not kept or has been deleted."""
        with closing(self._reader()) as reader:
            found = reader.execute("SELECT facts, payload FROM payloads WHERE group_id = ?", (group_id,)).fetchone()
        if found is None:
            return None
        try:
            message = decode(found[0])
        except msgspec.MsgspecError:  # damaged
            return None
        return structs.replace(message, payload=found[1]) if isinstance(message, GroupDone) else None

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
        if resume and (problem := damage(self._path)):
            self.repaired = f"{self._path} {problem}: it is made anew from the checkpoint"
            for path in files_of(self._path):
                path.replace(path.with_name(path.name + DAMAGED))
        elif not resume and self._path.exists():
            raise RunError(f"the run directory belongs to another run: {self._path} exists")
        new = not self._path.exists()
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        # Commits are not synced, but `flush` is: a lease that a crash of the machine undoes is made again.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        if new:
            self._connection.executescript(_SCHEMA)

    def _write_all(self) -> None:
        closed = False
        while not closed:
            # One item, and those that are queued behind it: they share a transaction.
            batch = [self._queue.get()]
            while len(batch) < MAX_WRITES and batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get())
            writes = [item for item in batch if isinstance(item, tuple)]
            self._apply(writes)
            events = [item for item in batch if isinstance(item, threading.Event)]
            if events:
                self._sync()
            for event in events:
                event.set()
            closed = None in batch
        self._connection.close()

    def _sync(self) -> None:
        """Fsync what is committed. SQLite itself does so only when it moves the log into the file."""
        try:
            for path in files_of(self._path):
                if path.name.endswith(LOG):
                    sync_file(path)
            sync_folder(self._path.parent)
        except OSError as error:
            self._fail(error)

    def _apply(self, writes: list[_Write]) -> None:
        if self._error is not None or not writes:
            return
        try:
            self._connection.execute("BEGIN")
            for sql, run in itertools.groupby(writes, key=itemgetter(0)):
                self._connection.executemany(sql, [parameters for _, parameters in run])
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._error = RunError(f"the ledger {self._path} cannot be written: {error}.{disk_question(error)}")
        self._error.__cause__ = error
        self._on_error(self._error)


def files_of(path: Path) -> Iterator[Path]:
    """Yield the files of the ledger `path` that exist: the database, its log and the log's index."""
    yield from (file for suffix in ("", LOG, "-shm") if (file := path.with_name(path.name + suffix)).exists())


def damage(path: Path) -> str:
    """Return what is wrong with the file of a ledger, as the end of a sentence; "" if it is sound.

    Reads the whole file. Raises RunError if a newer rlx wrote it, and sqlite3.Error if it cannot be read at all.
    """
    if not path.exists():
        return "is missing"
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in {0, VERSION}:
                raise RunError(f"{path} has format {found}; this rlx reads format {VERSION}")
            if found == 0:
                return "is empty"
            problem = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            connection.execute(_SELECT).fetchone()
            return "" if problem == "ok" else f"is damaged ({problem})"
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)  # none if Python refuses a value that it has read
        if code is None or code == sqlite3.SQLITE_IOERR_SHORT_READ or code & 0xFF in _DAMAGE:
            return f"is damaged ({error})"
        raise  # a fault of the disk, or of permissions: it says nothing about the content
