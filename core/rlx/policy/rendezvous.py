"""Where the policy's ranks meet: a store that listens on the loopback interface only.

Torch's own `c10d` rendezvous listens on every interface without authentication, and unpickles what others write to its
store: whoever reaches the port could run code in the policy's process.
"""

from __future__ import annotations

from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo, rendezvous_handler_registry

from rlx.names import LOOPBACK
from rlx.sync.transfer_group import open_store
from rlx.torch_private import PrefixStore

BACKEND = "rlx"
"""`rdzv_backend` of torch elastic's launcher, once `register` was called."""


class LoopbackRendezvous(RendezvousHandler):
    """Rendezvous of one agent with itself: all ranks are on this machine, and are started once."""

    def __init__(self, run_id: str, ranks: int, timeout: float) -> None:
        self._run_id = run_id
        # Ranks connect to it, and it outlives them.
        self._store, self._port = open_store(LOOPBACK, 1 + ranks, timeout)

    def next_rendezvous(self) -> RendezvousInfo:
        """Return the store, as the first and only node."""
        place = RendezvousStoreInfo(LOOPBACK, self._port)
        return RendezvousInfo(PrefixStore(self._run_id, self._store), 0, 1, place)

    @property
    def use_agent_store(self) -> bool:
        """Whether ranks connect to the agent's store; else rank 0 would open one, on every interface."""
        return True

    def get_backend(self) -> str:
        """Return the name under which torch elastic knows this rendezvous."""
        return BACKEND

    def get_run_id(self) -> str:
        """Return the name of the run, as torch elastic was given it."""
        return self._run_id

    def is_closed(self) -> bool:
        """Whether nobody may join any more: never, there is nobody else."""
        return False

    def set_closed(self) -> None:
        """Do nothing: nobody else could join."""

    def num_nodes_waiting(self) -> int:
        """Return the number of nodes that want to join: none."""
        return 0

    def shutdown(self) -> bool:
        """Leave the store open until the process ends: ranks that stop may still use it."""
        return True


def register(ranks: int, timeout: float) -> None:
    """Make `BACKEND` known to torch elastic. timeout: seconds that the agent waits for an answer of the store."""

    def make(parameters: RendezvousParameters) -> RendezvousHandler:
        return LoopbackRendezvous(parameters.run_id, ranks, timeout)

    rendezvous_handler_registry.register(BACKEND, make)
