"""Boot data: everything that a process of a run gets at its start.

Rules:

* Boot data comes as one blob on stdin, never in environment variables or arguments: it holds keys.
* On the pipe a blob is framed: four bytes of length, big-endian, then the blob.
* This module is imported by every process, the nanny included, so it imports nothing heavy.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from rlx.errors import RunError
from rlx.fingerprint import Fingerprints
from rlx.names import LOGS

if TYPE_CHECKING:
    from rlx.config.schema import Config

_LENGTH_BYTES = 4


class PluginRecord(msgspec.Struct, frozen=True):
    """One plugin of the run, as recorded in plugins.json. A process loads exactly this plugin, or stops."""

    kind: str
    """`datasets`, `rewards`, ... or `hooks`."""
    name: str
    """Its name in the config."""
    dist: str
    """Distribution that provides it; empty for a file or a bare module."""
    version: str
    target: str
    """`module:attribute`, or `/abs/file.py:attribute`."""
    sha256: str
    """Digest of the target's source file."""
    part: str = ""
    """Argument of `launch_worker` by which a launch script gave it; empty if the config names it."""


class ScriptRecord(msgspec.Struct, frozen=True):
    """The launch script of a run."""

    target: str
    """`/abs/script.py`, or `package.module`."""
    arguments: tuple[str, ...]
    """Its own command line."""
    sha256: str
    folder: str
    """Working directory of the launcher; a module is also looked for there."""
    given: tuple[str, ...] = ()
    """Arguments that it passed to `launch_worker` in the launcher. A process runs the script only if it needs one."""


class Endpoint(msgspec.Struct, frozen=True):
    """Address of the controller, and the keys of one side of a CurveZMQ connection (Z85 text)."""

    host: str
    port: int
    server_public: str
    public: str
    secret: str


class Boot(msgspec.Struct, frozen=True):
    """Boot data of one process."""

    kind: str
    """`controller`, `rollout`, or `policy`."""
    name: str
    """`controller`, `rollout-0` ..., `policy`, `launcher`."""
    index: int
    attempt: int
    run_dir: str
    base_dir: str
    """Folder of the config file: `./file.py:name` is relative to it."""
    config: dict[str, Any]
    """The resolved config, as `Config.model_dump(by_alias=True, mode="json")` gives it."""
    plugins: list[PluginRecord]
    rollouts: bool
    """True if the algorithm learns from samples (RL), False if it learns from dataset rows (SFT)."""
    endpoint: Endpoint
    """For the controller: `public`/`secret` are the server's and `port` is the one to bind (0: any free one)."""
    client_keys: dict[str, str] = {}
    """Controller only: client name -> public key. Other clients are refused."""
    data: Fingerprints | None = None
    """Fingerprints of the datasets in the launcher; the controller compares those of other processes with them."""
    script: ScriptRecord | None = None
    resume_from: str | None = None
    """A committed checkpoint folder to resume from."""

    def load_config(self) -> Config:
        """Return the config, validated again."""
        from rlx.config.schema import Config

        return Config.model_validate(self.config, strict=False)

    @property
    def run_path(self) -> Path:
        return Path(self.run_dir)

    @property
    def log(self) -> Path:
        """File for the output of the process."""
        return self.run_path / LOGS / f"{self.name}.log"


def encode_boot(boot: Boot) -> bytes:
    return msgspec.msgpack.encode(boot)


def decode_boot(data: bytes) -> Boot:
    return msgspec.msgpack.decode(data, type=Boot)


def frame_blob(blob: bytes) -> bytes:
    """Return the blob with its length in front, to write to a pipe."""
    return len(blob).to_bytes(_LENGTH_BYTES, "big") + blob


def read_blob(descriptor: int) -> bytes:
    """Read one framed blob and not a byte more. Raises RunError if the other end closes before it is complete."""
    return _read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big"))


def _read_exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(descriptor, count - len(data))
        if not chunk:
            raise RunError("the process that started this one ended before its boot data was written")
        data += chunk
    return data
