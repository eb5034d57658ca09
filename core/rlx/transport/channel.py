"""The run's channels: what the rest of rlx imports of the transport."""

from __future__ import annotations

from rlx.transport.client import Client
from rlx.transport.server import PeerState, Server
from rlx.transport.sync_client import Command, SyncClient

__all__ = ["Client", "Command", "PeerState", "Server", "SyncClient"]
