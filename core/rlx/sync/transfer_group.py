"""The process group that carries weights from the policy to the engines.

Rules:

* It is a group of its own, never the default one: the policy and vLLM each have a default group already. Rank 0 sends,
  every engine worker receives.
* Every wait has a timeout, and its error says what it waited for.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from rlx.errors import SyncError, first_line
from rlx.torch_private import Backend, BroadcastOptions, PrefixStore, Store, TCPStore

BACKENDS = ("gloo", "nccl")


class TransferBroken(SyncError):  # noqa: N818 - the event is the name
    """A collective of the group failed: a member has died or left, or did not take part in time."""


def open_store(host: str, world_size: int, timeout: float) -> tuple[TCPStore, int]:
    """Open the store at which the group meets, on a free port of `host`; return the store and the port.

    Keep a reference to the store for as long as the group lives.
    """
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    port = int(listener.getsockname()[1])
    # Pass the listening descriptor on, so that the store listens on `host` only and not on every interface.
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
    """One member of a transfer group. Not thread-safe."""

    rank: int
    world_size: int
    device: torch.device
    timeout: float
    _backend: Backend | None
    _store: TCPStore
    _buffers: list[Tensor] = field(default_factory=list)

    def broadcast(self, tensor: Tensor, what: str) -> None:
        """Broadcast rank 0's `tensor` in place; returns when it may be reused.

        Raises TransferBroken, which names `what`; this member has then left the group.
        """
        assert self._backend is not None, "broadcast after close"
        options = BroadcastOptions()
        options.rootRank = 0
        options.timeout = timedelta(seconds=self.timeout)
        try:
            self._backend.broadcast([tensor], options).wait()  # type: ignore[attr-defined] # the stub lacks it
        except RuntimeError as error:
            # Members that wait for this one notice it now, and not at the end of their timeout.
            self.close()
            raise TransferBroken(
                f"weight transfer broke at {what} (rank {self.rank} of {self.world_size}, "
                f"timeout {self.timeout:g} s): {first_line(error)}"
            ) from error

    def buffers(self, count: int, nbytes: int) -> list[Tensor]:
        """Return `count` uint8 buffers of `nbytes` each, reused between calls on the CPU."""
        if len(self._buffers) >= count and self._buffers[0].numel() == nbytes:
            return self._buffers[:count]
        buffers = [torch.empty(nbytes, dtype=torch.uint8, device=self.device) for _ in range(count)]
        # Main memory is plentiful, and touching new pages is slow. A GPU's memory is scarce, and torch caches it.
        self._buffers = buffers if self.device.type == "cpu" else []
        return buffers

    def close(self) -> None:
        """Leave the group. The next collective of the other members fails at once."""
        if self._backend is not None:
            self._backend.abort()
        self._backend = None


def join(host: str, port: int, rank: int, world_size: int, backend: str, timeout: float) -> TransferGroup:
    """Join the transfer group that meets at the store on host:port, as rank `rank`. Returns when all have joined."""
    if backend not in BACKENDS:
        raise SyncError(f"weight transfer has no backend {backend!r}; choose from {', '.join(BACKENDS)}")
    wait = timedelta(seconds=timeout)
    try:
        store = TCPStore(host, port, world_size, is_master=False, timeout=wait, wait_for_workers=False)
        connection, device = _make_backend(backend, PrefixStore("rlx", store), rank, world_size, wait, host)
    except RuntimeError as error:
        raise SyncError(
            f"rank {rank} of {world_size} could not join the weight transfer at {host}:{port} "
            f"within {timeout:g} s: {first_line(error)}"
        ) from error
    group = TransferGroup(rank, world_size, device, timeout, connection, store)
    group.broadcast(torch.zeros(1, device=device), "the first handshake")
    return group


def _make_backend(
    name: str, store: Store, rank: int, size: int, timeout: timedelta, host: str
) -> tuple[Backend, torch.device]:
    if name == "nccl":
        device = torch.device("cuda", torch.cuda.current_device())
        nccl_options = dist.ProcessGroupNCCL.Options()
        nccl_options._timeout = timeout  # noqa: SLF001 - torch has no public setter
        return dist.ProcessGroupNCCL(store, rank, size, nccl_options), device
    gloo: Any = dist.ProcessGroupGloo  # torch's stub lacks `_Options` and the constructor that takes them
    # Use the interface from which `host` is reached: for a loopback address, that is the loopback interface.
    family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(address)
        interface = str(probe.getsockname()[0])
    options = gloo._Options()  # noqa: SLF001 - torch has no public way to choose the interface
    options._timeout = timeout  # noqa: SLF001
    options._devices = [gloo.create_device(hostname=interface)]  # noqa: SLF001
    backend: Backend = gloo(store, rank, size, options)
    return backend, torch.device("cpu")
