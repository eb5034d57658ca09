"""Writes the policy's part of checkpoints in the background, while the ranks train.

Rules:

* Training stops for the copy into host memory. Each rank then writes and fsyncs its own files in a thread.
* Each rank reports, in the rendezvous store, the files that it has written or why it could not. Rank 0 waits for all
  reports, writes `state.json`, and hands over one report for all ranks. Threads of different ranks never meet in a
  collective: those belong to training.
* One checkpoint at a time: the caller waits for the report of one before it begins the next.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from safetensors.torch import save_file

from rlx.errors import RunError, described
from rlx.files import FileSum, disk_question, file_sum, share_file, sync_file, sync_folder, write_atomic
from rlx.policy.weights.checkpoint import STATE, PolicyState
from rlx.policy.weights.staging import Shard, Staging

if TYPE_CHECKING:
    from rlx.policy.model.built import Built
    from rlx.policy.parallel.mesh import Ranks
    from rlx.policy.train.optimizer import Optimizer
    from rlx.torch_private import Store

FILE_BYTES = 1 << 30
"""A rank begins another file after this many bytes, so that a reader can check several at a time."""
_POLL_SECONDS = 0.05


class Written(msgspec.Struct, frozen=True):
    """The result of writing a checkpoint, or one rank's share of it."""

    files: dict[str, FileSum] = {}
    """By name."""
    seconds: float = 0.0
    """From the end of the copy until all files were on disk."""
    error: str = ""


class Writer:
    """Writes the checkpoints of one rank. All ranks call `begin` at the same point of their commands."""

    def __init__(
        self,
        ranks: Ranks,
        staging: Staging,
        store: Callable[[], Store],
        report: Callable[[int, Written], None] = lambda _step, _written: None,
    ) -> None:
        """`store` opens a connection to the rendezvous store, for the thread alone.

        `report` is called on rank 0, by its thread, with the step of a checkpoint and the result.
        """
        self._ranks = ranks
        self._staging = staging
        self._open_store = store
        self._store: Store | None = None
        self._report = report
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rlx-checkpoint")
        self._last: Future[dict[str, FileSum]] | None = None

    def begin(self, path: Path, step: int, seconds: float) -> None:
        """Copy the state and begin to write it at `path`; the report comes after at most `seconds`.

        Raises RunError while the checkpoint before is still being written: its copy must not change.
        """
        if self._last is not None and not self._last.done():
            raise RunError(f"the policy was asked for a checkpoint of step {step} while it still writes one")
        path.mkdir(parents=True, exist_ok=True)
        shards = self._staging.copy()
        token = self._ranks.broadcast_bytes(secrets.token_bytes(8) if self._ranks.rank == 0 else None).hex()
        self._last = self._thread.submit(write_shards, path, self._ranks.rank, shards)
        self._last.add_done_callback(partial(self._done, path, step, token, time.perf_counter(), seconds))

    def close(self) -> None:
        """Return when nothing is being written any more."""
        self._thread.shutdown()

    def _done(
        self, path: Path, step: int, token: str, began: float, seconds: float, written: Future[dict[str, FileSum]]
    ) -> None:
        """Report this rank's share, on the thread that has written it; on rank 0, wait for the other ranks' too."""
        error = written.exception()
        share = Written(error=_cause(error)) if error is not None else Written(written.result())
        if self._store is None:
            self._store = self._open_store()
        self._store.set(_key(token, self._ranks.rank), msgspec.json.encode(share).decode())
        if self._ranks.rank == 0:
            whole = _gather(self._store, token, self._ranks.size, began + seconds)
            if not whole.error:
                whole = finish(path, step, self._ranks, whole.files)
            self._report(step, msgspec.structs.replace(whole, seconds=time.perf_counter() - began))


def save(path: Path, ranks: Ranks, built: Built, optimizer: Optimizer, step: int) -> dict[str, FileSum]:
    """Write a checkpoint after `step` updates at `path`, and return when it is on disk. All ranks call it."""
    path.mkdir(parents=True, exist_ok=True)
    shares = ranks.gather_bytes(
        msgspec.json.encode(write_shards(path, ranks.rank, Staging(ranks, built, optimizer).copy()))
    )
    files: dict[str, FileSum] = {}
    for share in shares:
        files |= msgspec.json.decode(share, type=dict[str, FileSum])
    if ranks.rank == 0:
        files = finish(path, step, ranks, files).files
    ranks.barrier()
    return files


def write_shards(path: Path, rank: int, shards: Mapping[str, Shard]) -> dict[str, FileSum]:
    """Write and fsync a rank's share into files in the folder `path`; return them by name."""
    sums = {}
    for number, names in enumerate(_files(shards), 1):
        file = path / f"rank_{rank:05d}-{number:05d}.safetensors"
        # The keys under which torch's HuggingFaceStorageReader finds the offsets of a file's chunks.
        sharding = {name: {"saved_offsets": shards[name].offsets} for name in names}
        metadata = {"DCP_SHARDING_INFO": json.dumps(sharding), "DCP_VERSION": "1.0", "format": "pt"}
        save_file({name: shards[name].tensor for name in names}, file, metadata=metadata)
        share_file(file)
        sync_file(file)
        sums[file.name] = file_sum(file)
    sync_folder(path)
    return sums


def finish(path: Path, step: int, ranks: Ranks, files: Mapping[str, FileSum]) -> Written:
    """Write `state.json` once all ranks' files are on disk; return these files and itself."""
    try:
        write_atomic(path / STATE, msgspec.json.encode(PolicyState(step, ranks.data_size)))
        return Written({**files, STATE: file_sum(path / STATE)})
    except OSError as error:
        return Written(error=_cause(error))


def _cause(error: BaseException) -> str:
    return f"{described(error)}.{disk_question(error)}"


def _files(shards: Mapping[str, Shard]) -> Iterator[list[str]]:
    """Divide the shards into files of about FILE_BYTES."""
    names: list[str] = []
    size = 0
    for name, shard in shards.items():
        names.append(name)
        size += shard.tensor.nbytes
        if size >= FILE_BYTES:
            yield names
            names, size = [], 0
    if names:
        yield names


def _gather(store: Store, token: str, size: int, deadline: float) -> Written:
    """Wait until every rank has reported; return all their files, or the error of the first one that has none."""
    missing = set(range(size))
    files: dict[str, FileSum] = {}
    while missing:
        for rank in sorted(missing):
            if store.check([_key(token, rank)]):
                share = msgspec.json.decode(store.get(_key(token, rank)), type=Written)
                if share.error:
                    return Written(error=f"policy rank {rank}: {share.error}")
                files |= share.files
                missing.discard(rank)
                store.delete_key(_key(token, rank))
        if missing and time.perf_counter() > deadline:
            late = ", ".join(map(str, sorted(missing)))
            return Written(error=f"policy rank {late} did not write its files in time. Is the disk stuck?")
        if missing:
            time.sleep(_POLL_SECONDS)
    return Written(files)


def _key(token: str, rank: int) -> str:
    return f"checkpoint/{token}/{rank}"
