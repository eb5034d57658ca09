"""What a process is told at its start: one blob on stdin, never environment variables or arguments.

How boot data travels over a pipe: four bytes of length, big-endian, then the blob.
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


class PluginRecord(msgspec.Struct, frozen=True):
    """One plugin that the run uses, as plugins.json has it. Every process loads from these, or stops."""

    kind: str
    """`datasets`, `rewards`, ... or `hooks`."""
    name: str
    """As the config says it."""
    dist: str
    """Distribution that provides it; empty for a file or a bare module."""
    version: str
    target: str
    """`module:attribute`, or `/abs/file.py:attribute`."""
    sha256: str
    """Of the target's source file."""
    part: str = ""
    """The argument of `launch_worker` that a launch script gave it as; empty for what the config names."""


class ScriptRecord(msgspec.Struct, frozen=True):
    """The launch script of a run."""

    target: str
    """`/abs/script.py`, or `package.module`."""
    arguments: tuple[str, ...]
    """Its own command line."""
    sha256: str
    folder: str
    """Where the launcher was called; a module is also looked for there."""
    given: tuple[str, ...] = ()
    """Which arguments of `launch_worker` it gave in the launcher: what is not among them needs no second run of it."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where the controller listens, and the keys of one side of a CurveZMQ connection (Z85 text)."""

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
    """Whether the algorithm learns from samples (RL) or from rows (SFT)."""
    endpoint: Endpoint
    """For the controller: `public`/`secret` are the server's and `port` is the one to bind (0: any free one)."""
    client_keys: dict[str, str] = {}
    """Controller only: client name -> public key; nobody else gets in."""
    data: Fingerprints | None = None
    """The datasets as the launcher saw them, for the controller to compare with what others see."""
    script: ScriptRecord | None = None
    resume_from: str | None = None
    """A committed checkpoint folder to go on from."""

    def load_config(self) -> Config:
        """The config, validated again."""
        from rlx.config.schema import Config

        return Config.model_validate(self.config, strict=False)

    @property
    def run_path(self) -> Path:
        return Path(self.run_dir)

    @property
    def log(self) -> Path:
        """What the process says, and what is said of it."""
        return self.run_path / LOGS / f"{self.name}.log"


def encode_boot(boot: Boot) -> bytes:
    return msgspec.msgpack.encode(boot)


def decode_boot(data: bytes) -> Boot:
    return msgspec.msgpack.decode(data, type=Boot)


_LENGTH_BYTES = 4


def frame_blob(blob: bytes) -> bytes:
    return len(blob).to_bytes(_LENGTH_BYTES, "big") + blob


def read_blob(descriptor: int) -> bytes:
    """Reads one blob and not a byte more. Raises RunError where the other end closed before it was whole."""
    return _read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, _LENGTH_BYTES), "big"))


def _read_exactly(descriptor: int, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = os.read(descriptor, count - len(data))
        if not chunk:
            raise RunError("who started this process went away before its boot data was written")
        data += chunk
    return data
