"""CurveZMQ keys of one run.

Rules:

* Every run has its own keys: one pair for the controller and one for each client. A client's public key identifies it
  by name: the controller admits no other keys, and a process can use a name only with its secret key.
* The keys are stored in the run directory, readable by its owner only. A process gets its own in its boot data.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import zmq

from rlx.boot import Endpoint
from rlx.errors import RunError
from rlx.files import write_atomic
from rlx.names import CONTROLLER


class KeyPair(msgspec.Struct, frozen=True):
    """A CurveZMQ key pair, as Z85 text."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> KeyPair:
        """Generate a pair."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))


class RunKeys(msgspec.Struct, frozen=True):
    """The controller's key pair, and one for each client by name."""

    server: KeyPair
    clients: dict[str, KeyPair]

    @classmethod
    def make(cls, clients: Iterable[str]) -> RunKeys:
        """Generate keys for the controller and `clients`."""
        return cls(KeyPair.make(), {name: KeyPair.make() for name in clients})

    @property
    def client_keys(self) -> dict[str, str]:
        """Client name -> public key: the keys that the controller admits."""
        return {name: pair.public for name, pair in self.clients.items()}

    def endpoint(self, name: str, host: str, port: int) -> Endpoint:
        """Return the controller's address and the keys of process `name`, which may be the controller itself."""
        pair = self.server if name == CONTROLLER else self.clients[name]
        return Endpoint(host, port, self.server.public, pair.public, pair.secret)

    def save(self, path: Path) -> None:
        """Write the keys to a file that only its owner can read."""
        write_atomic(path, msgspec.json.format(msgspec.json.encode(self)), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> RunKeys:
        """Read saved keys. Raises RunError if the file is readable by others or doesn't contain keys."""
        if path.stat().st_mode & 0o077:
            raise RunError(f"{path} is readable by users other than its owner. Set its mode to 600.")
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.MsgspecError as error:
            raise RunError(f"{path} does not contain the keys of a run: {error}") from error
