"""Weights as buckets: tensors packed one after another into a flat uint8 buffer that one broadcast moves.

Rules:

* A manifest lists the tensors of every bucket. Both ends know it before the first transfer; it never changes.
* Tensors in a buffer are aligned to 64 bytes.
* A header (version, index, bytes, digest of the layout) precedes each bucket, and an end mark follows the last. A
  receiver raises if a header doesn't match its manifest, so it never loads tensors that it didn't expect.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import torch
from torch import Tensor

from rlx.errors import SyncError
from rlx.sync.transfer_group import TransferGroup
from rlx.transport.messages import TensorMeta

Manifest = list[list[TensorMeta]]
"""Name, dtype and shape of each tensor of a transfer: one list for each bucket."""

_ALIGN = 64
_MAGIC = 0x726C78
_END = -1


# --- layout -------------------------------------------------------------------------------------------------


def tensor_meta(name: str, tensor: Tensor) -> TensorMeta:
    """Return the manifest's entry for `tensor`, which may be a meta tensor."""
    return TensorMeta(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape))


def manifest_of(buckets: Iterable[Iterable[tuple[str, Tensor]]]) -> Manifest:
    """Return the manifest of a transfer of these tensors, which may be meta tensors."""
    return [[tensor_meta(name, tensor) for name, tensor in bucket] for bucket in buckets]


def bucket_bytes(metas: Sequence[TensorMeta]) -> int:
    """Return the bytes of the flat buffer that holds a bucket, including alignment."""
    return sum(_aligned(_nbytes(meta)) for meta in metas)


def total_bytes(manifest: Manifest) -> int:
    """Return the bytes of all tensors of a transfer, without alignment."""
    return sum(_nbytes(meta) for metas in manifest for meta in metas)


def pack_bucket(tensors: Iterable[Tensor], metas: Sequence[TensorMeta], out: Tensor) -> None:
    """Copy `tensors` into `out`, uint8 [at least bucket_bytes(metas)]. Raises SyncError if one differs from `metas`."""
    offset = 0
    for tensor, meta in zip(tensors, metas, strict=True):
        if tensor_meta(meta.name, tensor) != meta:
            raise SyncError(
                f"{meta.name} was announced as {meta.dtype} {meta.shape}, but is {tensor.dtype} {list(tensor.shape)}"
            )
        _view(out, offset, meta).copy_(tensor)
        offset += _aligned(_nbytes(meta))


def unpack_bucket(buffer: Tensor, metas: Sequence[TensorMeta]) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of a bucket: views of `buffer`, valid until it is reused."""
    offset = 0
    for meta in metas:
        yield meta.name, _view(buffer, offset, meta)
        offset += _aligned(_nbytes(meta))


def _view(buffer: Tensor, offset: int, meta: TensorMeta) -> Tensor:
    return buffer[offset : offset + _nbytes(meta)].view(_dtype(meta)).view(meta.shape)


def _dtype(meta: TensorMeta) -> torch.dtype:
    dtype = getattr(torch, meta.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise SyncError(f"{meta.name} has the unknown dtype {meta.dtype!r}")
    return dtype


def _nbytes(meta: TensorMeta) -> int:
    return math.prod(meta.shape) * _dtype(meta).itemsize


def _aligned(nbytes: int) -> int:
    return (nbytes + _ALIGN - 1) // _ALIGN * _ALIGN


# --- send and receive ---------------------------------------------------------------------------------------


def send_buckets(group: TransferGroup, version: int, manifest: Manifest, tensors: Iterable[Iterable[Tensor]]) -> None:
    """Broadcast the weights of `version`.

    tensors: one iterable for each bucket, in the order of its metas. A tensor may be freed once the next one is
    requested.

    Raises SyncError if a tensor differs from the manifest, `tensors` ends early, or the group breaks.
    """
    (buffer,) = group.buffers(1, _largest(manifest))
    contents = iter(tensors)
    for index, metas in enumerate(manifest):
        content = next(contents, None)
        if content is None:
            raise SyncError(f"weights of version {version} ended after {index} of {len(manifest)} buckets")
        part = buffer[: bucket_bytes(metas)]
        pack_bucket(content, metas, part)
        group.broadcast(_header(version, index, metas, group.device), f"the header of bucket {index}")
        group.broadcast(part, f"bucket {index}")
    group.broadcast(_header(version, _END, [], group.device), "the end mark")


def receive_buckets(group: TransferGroup, version: int, manifest: Manifest) -> Iterator[Iterator[tuple[str, Tensor]]]:
    """Receive the weights of `version`: yield names and tensors bucket by bucket, as views valid until the next one.

    The next bucket arrives while the caller works on the current one. Raises SyncError if the group breaks or the
    sender's stream doesn't match the manifest.
    """
    buffers = group.buffers(2, _largest(manifest))
    thread = ThreadPoolExecutor(1, thread_name_prefix="rlx-receive")
    try:
        upcoming = thread.submit(_receive_bucket, group, version, 0, manifest, buffers)
        for index, metas in enumerate(manifest):
            part = upcoming.result()
            upcoming = thread.submit(_receive_bucket, group, version, index + 1, manifest, buffers)
            yield unpack_bucket(part, metas)
        upcoming.result()
    finally:
        # After an error the thread may be in a collective until its timeout; don't wait for it.
        thread.shutdown(wait=False)


def _receive_bucket(
    group: TransferGroup, version: int, index: int, manifest: Manifest, buffers: Sequence[Tensor]
) -> Tensor:
    """Receive bucket `index`, or the end mark after the last one."""
    if index == len(manifest):
        _check_header(group, version, _END, [])
        return buffers[0][:0]
    _check_header(group, version, index, manifest[index])
    part = buffers[index % 2][: bucket_bytes(manifest[index])]
    group.broadcast(part, f"bucket {index}")
    return part


def _largest(manifest: Manifest) -> int:
    return max(map(bucket_bytes, manifest), default=0)


def _header(version: int, index: int, metas: Sequence[TensorMeta], device: torch.device) -> Tensor:
    """Return the header of a bucket, int64 [5]."""
    digest = hashlib.blake2b(msgspec.msgpack.encode(list(metas)), digest_size=7).digest()
    fields = [_MAGIC, version, index, bucket_bytes(metas), int.from_bytes(digest, "big")]
    return torch.tensor(fields, dtype=torch.int64, device=device)


def _check_header(group: TransferGroup, version: int, index: int, metas: Sequence[TensorMeta]) -> None:
    """Receive a header. Raises SyncError if it isn't that of bucket `index`."""
    name = "the end mark" if index == _END else f"bucket {index}"
    expected = _header(version, index, metas, group.device)
    seen = torch.zeros_like(expected)
    group.broadcast(seen, f"the header of {name}")
    if not torch.equal(seen, expected):
        fields = ("magic", "version", "bucket", "bytes", "layout digest")
        differences = [
            f"expected {field} {want}, got {got}"
            for field, want, got in zip(fields, expected.tolist(), seen.tolist(), strict=True)
            if want != got
        ]
        raise SyncError(f"weight transfer is out of step at {name} of version {version}: {'; '.join(differences)}")
