"""Keys of one run.

The rules of this part:

* Every run has keys of its own: one pair for the controller, one for each client. A client's public key is its name:
  the controller lets in nobody else, and nobody can speak under a name whose secret key it does not hold.
* They are kept in the run directory, readable by its owner only, and reach a process in its boot data.
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
    """A CurveZMQ pair, as Z85 text."""

    public: str
    secret: str

    @classmethod
    def make(cls) -> KeyPair:
        public, secret = zmq.curve_keypair()
        return cls(public.decode("ascii"), secret.decode("ascii"))


class RunKeys(msgspec.Struct, frozen=True):
    """The controller's pair, and one for each client by name."""

    server: KeyPair
    clients: dict[str, KeyPair]

    @classmethod
    def make(cls, clients: Iterable[str]) -> RunKeys:
        return cls(KeyPair.make(), {name: KeyPair.make() for name in clients})

    @property
    def client_keys(self) -> dict[str, str]:
        """Client name -> public key: what the controller must know."""
        return {name: pair.public for name, pair in self.clients.items()}

    def endpoint(self, name: str, host: str, port: int) -> Endpoint:
        """Where the controller listens, with the keys that `name` holds; the controller's own name is `controller`."""
        pair = self.server if name == CONTROLLER else self.clients[name]
        return Endpoint(host, port, self.server.public, pair.public, pair.secret)

    def save(self, path: Path) -> None:
        write_atomic(path, msgspec.json.format(msgspec.json.encode(self)), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> RunKeys:
        """Raises RunError where others could read the file, or where it holds no keys."""
        if path.stat().st_mode & 0o077:
            raise RunError(f"{path} can be read by others than its owner. Set its mode to 600.")
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.MsgspecError as error:
            raise RunError(f"{path} holds no keys of a run: {error}") from error
