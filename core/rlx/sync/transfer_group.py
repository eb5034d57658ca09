"""The wire between the policy and the engines: who takes part in a transfer, and how tensors lie in its buffers.

The rules of this part:

* A transfer group is a process group of its own (rank 0 sends, every engine worker receives), never the default world:
  the policy and vLLM each have a world already.
* Weights travel as *buckets*: the tensors of one bucket lie one after another, aligned, in one flat uint8 buffer that
  is moved by one collective.
* Before each bucket goes a header (version, index, bytes, digest of the layout), and after the last an end mark. A
  receiver that was told another plan, or meets a stream that is cut short or out of order, raises; it never loads what
  it was not promised.
* Every wait has a timeout and says what it waited for.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import BroadcastOptions, PrefixStore, Store, TCPStore

from rlx.errors import SyncError
from rlx.transport.messages import TensorMeta

Bucket = Sequence[TensorMeta]

_ALIGN = 64
_MAGIC = 0x726C78
_END = -1


def open_store(host: str, world_size: int, timeout: float) -> tuple[TCPStore, int]:
    """The sender's end of the rendezvous: a store on a free port of `host`, and that port.

    Keep the store for as long as the group lives.
    """
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = int(listener.getsockname()[1])
    # The descriptor is handed over, so that the store listens on `host` only and not on every interface.
    store = TCPStore(
        host,
        port,
        world_size,
        is_master=True,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    return store, port


@dataclass
class TransferGroup:
    """One member of a transfer group. Not safe to share between threads."""

    rank: int
    world_size: int
    device: torch.device
    timeout: float
    keep_buffers: bool
    _group: Any
    _store: TCPStore
    _buffers: list[Tensor] = field(default_factory=list)

    def broadcast(self, tensor: Tensor, what: str) -> None:
        """Rank 0's `tensor` into everybody's; returns when it may be used again. `what` is for the error."""
        options = BroadcastOptions()
        options.rootRank = 0
        options.timeout = timedelta(seconds=self.timeout)
        try:
            self._group.broadcast([tensor], options).wait()
        except RuntimeError as error:
            raise SyncError(
                f"weight transfer broke at {what} (rank {self.rank} of {self.world_size}, "
                f"timeout {self.timeout:g} s): {_first_line(error)}"
            ) from error

    def buffers(self, count: int, nbytes: int) -> list[Tensor]:
        """`count` uint8 buffers of `nbytes`; the same ones again where memory is cheaper than touching new pages."""
        if len(self._buffers) >= count and self._buffers[0].numel() == nbytes:
            return self._buffers[:count]
        made = [torch.empty(nbytes, dtype=torch.uint8, device=self.device) for _ in range(count)]
        self._buffers = made if self.keep_buffers else []
        return made

    def close(self) -> None:
        """Leave. The others' next collective fails; nothing hangs."""
        abort = getattr(self._group, "abort", None)
        if abort is not None:
            abort()
        self._group = None


def join(host: str, port: int, rank: int, world_size: int, backend: str, timeout: float) -> TransferGroup:
    """Become rank `rank` of the transfer group that meets at the store on host:port. Returns when all have joined."""
    if backend not in _BACKENDS:
        raise SyncError(f"weight transfer knows no backend {backend!r}; it has {', '.join(_BACKENDS)}")
    make, keep_buffers = _BACKENDS[backend].make, _BACKENDS[backend].keep_buffers
    wait = timedelta(seconds=timeout)
    try:
        store = TCPStore(host, port, world_size, is_master=False, timeout=wait, wait_for_workers=False)
        group, device = make(PrefixStore("rlx", store), rank, world_size, wait, host)
    except RuntimeError as error:
        raise SyncError(
            f"rank {rank} of {world_size} could not join the weight transfer at {host}:{port} "
            f"within {timeout:g} s: {_first_line(error)}"
        ) from error
    joined = TransferGroup(rank, world_size, device, timeout, keep_buffers, group, store)
    joined.broadcast(torch.zeros(1, device=device), "the first handshake")
    return joined


def _gloo(store: Store, rank: int, size: int, timeout: timedelta, host: str) -> tuple[Any, torch.device]:
    gloo: Any = dist.ProcessGroupGloo
    # torch has no public way to choose the interface.
    options = gloo._Options()  # noqa: SLF001
    options._timeout = timeout  # noqa: SLF001
    options._devices = [gloo.create_device(hostname=_address_towards(host))]  # noqa: SLF001
    return gloo(store, rank, size, options), torch.device("cpu")


def _nccl(store: Store, rank: int, size: int, timeout: timedelta, host: str) -> tuple[Any, torch.device]:  # noqa: ARG001
    nccl: Any = dist.ProcessGroupNCCL
    options = nccl.Options()
    options._timeout = timeout  # noqa: SLF001 - no public way either
    return nccl(store, rank, size, options), torch.device("cuda", torch.cuda.current_device())


@dataclass(frozen=True)
class _Backend:
    make: Callable[[Store, int, int, timedelta, str], tuple[Any, torch.device]]
    keep_buffers: bool
    """Main memory is plentiful, and its first touch is slow; a GPU's is scarce, and cached by torch."""


_BACKENDS: Mapping[str, _Backend] = {
    "gloo": _Backend(_gloo, keep_buffers=True),
    "nccl": _Backend(_nccl, keep_buffers=False),
}


def _address_towards(host: str) -> str:
    """The local address from which `host` is reached: loopback stays on loopback."""
    family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


# --- layout -------------------------------------------------------------------------------------------------


def meta_of(name: str, tensor: Tensor) -> TensorMeta:
    """What the receiver must know of `tensor`."""
    return TensorMeta(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))


def bucket_bytes(metas: Bucket) -> int:
    """Bytes of the flat buffer that holds a bucket, alignment included."""
    return sum(_padded(_nbytes(meta)) for meta in metas)


def plan_bytes(buckets: Sequence[Bucket]) -> int:
    """Bytes of all tensors of a transfer, without alignment."""
    return sum(_nbytes(meta) for metas in buckets for meta in metas)


def pack(tensors: Iterable[Tensor], metas: Bucket, out: Tensor) -> None:
    """Copy `tensors` (as `metas` announces them) into `out`, uint8 [at least bucket_bytes(metas)]."""
    offset = 0
    for tensor, meta in zip(tensors, metas, strict=True):
        if meta_of(meta.name, tensor) != meta:
            raise SyncError(
                f"{meta.name} was announced as {meta.dtype} {meta.shape}, and is {tensor.dtype} {list(tensor.shape)}"
            )
        _view(out, offset, meta).copy_(tensor)
        offset += _padded(_nbytes(meta))


def unpack(buffer: Tensor, metas: Bucket) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a bucket: views of `buffer`, good until it is used again."""
    offset = 0
    for meta in metas:
        yield meta.name, _view(buffer, offset, meta)
        offset += _padded(_nbytes(meta))


def _view(buffer: Tensor, offset: int, meta: TensorMeta) -> Tensor:
    return buffer[offset : offset + _nbytes(meta)].view(_dtype(meta)).view(meta.shape)


def _dtype(meta: TensorMeta) -> torch.dtype:
    dtype = getattr(torch, meta.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise SyncError(f"{meta.name} has the unknown dtype {meta.dtype!r}")
    return dtype


def _nbytes(meta: TensorMeta) -> int:
    count = 1
    for size in meta.shape:
        count *= size
    return count * _dtype(meta).itemsize


def _padded(nbytes: int) -> int:
    return (nbytes + _ALIGN - 1) // _ALIGN * _ALIGN


# --- the stream ---------------------------------------------------------------------------------------------


def send_buckets(
    group: TransferGroup, version: int, buckets: Sequence[Bucket], tensors: Iterable[Iterable[Tensor]]
) -> int:
    """Send the weights of `version`; returns the bytes sent.

    `tensors` yields an iterable for each bucket, in the order of its metas; a tensor may be freed once the next one is
    asked for.

    Raises SyncError where a tensor is not as announced, `tensors` ends early, or the group breaks.
    """
    (buffer,) = group.buffers(1, _largest(buckets))
    given = iter(tensors)
    for index, metas in enumerate(buckets):
        content = next(given, None)
        if content is None:
            raise SyncError(f"weights of version {version} ended after {index} of {len(buckets)} buckets")
        part = buffer[: bucket_bytes(metas)]
        pack(content, metas, part)
        group.broadcast(_header(version, index, metas, group.device), f"the header of bucket {index}")
        group.broadcast(part, f"bucket {index}")
    group.broadcast(_header(version, _END, [], group.device), "the end mark")
    return plan_bytes(buckets)


def receive_buckets(
    group: TransferGroup, version: int, buckets: Sequence[Bucket]
) -> Iterator[Iterator[tuple[str, Tensor]]]:
    """The other end of `send_buckets`: names and tensors, bucket by bucket; views, good until the next bucket.

    A bucket arrives while the one before it is being worked on.
    """
    buffers = group.buffers(2, _largest(buckets))
    ahead = ThreadPoolExecutor(1, thread_name_prefix="rlx-wire")
    try:
        coming = ahead.submit(_receive, group, version, 0, buckets, buffers)
        for index, metas in enumerate(buckets):
            part = coming.result()
            coming = ahead.submit(_receive, group, version, index + 1, buckets, buffers)
            yield unpack(part, metas)
        coming.result()
    finally:
        # After an error the thread may sit in a collective until its timeout; nobody waits for it.
        ahead.shutdown(wait=False)


def _receive(
    group: TransferGroup, version: int, index: int, buckets: Sequence[Bucket], buffers: Sequence[Tensor]
) -> Tensor:
    """Bucket `index`, or the end mark after the last."""
    if index == len(buckets):
        _expect(group, version, _END, [])
        return buffers[0][:0]
    _expect(group, version, index, buckets[index])
    part = buffers[index % 2][: bucket_bytes(buckets[index])]
    group.broadcast(part, f"bucket {index}")
    return part


def _largest(buckets: Sequence[Bucket]) -> int:
    return max(map(bucket_bytes, buckets), default=0)


def _header(version: int, index: int, metas: Bucket, device: torch.device) -> Tensor:
    digest = hashlib.blake2b(msgspec.msgpack.encode(list(metas)), digest_size=7).digest()
    fields = [_MAGIC, version, index, bucket_bytes(metas), int.from_bytes(digest, "big")]
    return torch.tensor(fields, dtype=torch.int64, device=device)


def _expect(group: TransferGroup, version: int, index: int, metas: Bucket) -> None:
    name = "the end mark" if index == _END else f"bucket {index}"
    expected = _header(version, index, metas, group.device)
    seen = torch.zeros_like(expected)
    group.broadcast(seen, f"the header of {name}")
    if not torch.equal(seen, expected):
        fields = ("magic", "version", "bucket", "bytes", "layout digest")
        differ = [
            f"{field} {want} expected, {got} came"
            for field, want, got in zip(fields, expected.tolist(), seen.tolist(), strict=True)
            if want != got
        ]
        raise SyncError(f"weight transfer is out of step at {name} of version {version}: {'; '.join(differ)}")
