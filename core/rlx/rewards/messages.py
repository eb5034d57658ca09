"""What the pool and its workers say to each other: MessagePack frames, each with its length in 4 bytes before it.

Pool to worker: one `Start`, then `Call` after `Call`, each only after the answer to the one before.
Worker to pool: `Ready` or `Broken`, then for each call `Scored` or `Raised`.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from rlx.boot import Boot
from rlx.errors import RewardError
from rlx.rewards.base import Score
from rlx.rewards.serialization import UNSENDABLE, to_plain, why_unsendable

LENGTH = struct.Struct(">I")


class RewardSpec(msgspec.Struct, frozen=True):
    """One reward to load: a plugin's name, its options, and whether the config makes it a group reward."""

    name: str
    args: dict[str, Any] = {}
    group: bool | None = None


class Start(msgspec.Struct, frozen=True, tag=True):
    boot: Boot
    rewards: list[RewardSpec]


class Call(msgspec.Struct, frozen=True, tag=True):
    """Score one completion with reward number `reward` of the Start; a group reward gets all of a prompt's."""

    reward: int
    texts: list[str]
    reference: Any
    offered: dict[str, Any]


class Loaded(msgspec.Struct, frozen=True):
    """One reward as it was loaded."""

    owner: str
    """Who answers for it."""
    wants: list[str]
    """Which of what only the pool has (prompt, example ...) it takes."""
    group: bool
    """Whether it is asked about all completions of a prompt at once."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """In the order of the Start."""

    rewards: list[Loaded]


class Broken(msgspec.Struct, frozen=True, tag=True):
    """A reward could not be loaded; the worker is gone."""

    error: str
    usage: bool
    """Whether the user's config or plugin is at fault (exit code 2)."""


class Scored(msgspec.Struct, frozen=True, tag=True):
    """One score for each of the call's texts."""

    scores: list[Score]
    seconds: float
    """How long the call took."""


class Raised(msgspec.Struct, frozen=True, tag=True):
    """The reward raised, or returned something that is no reward; `error` is the whole message."""

    error: str
    seconds: float


ToWorker = Start | Call
FromWorker = Ready | Broken | Scored | Raised

_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker, where: str = "the row") -> bytes:
    """The bytes of one message. Raises RewardError where a reference or item can't be sent; `where` names its row."""
    try:
        body = msgspec.msgpack.encode(message, enc_hook=to_plain)
    except UNSENDABLE as error:
        raise RewardError(f"{where}: {why_unsendable(_parts(message)) or error}") from error
    return LENGTH.pack(len(body)) + body


def _parts(message: ToWorker | FromWorker) -> dict[str, Any]:
    """What the dataset gave."""
    return {"reference": message.reference, "item": message.offered.get("example")} if isinstance(message, Call) else {}


def to_worker(body: bytes) -> ToWorker:
    return _TO_WORKER.decode(body)


def from_worker(body: bytes) -> FromWorker:
    return _FROM_WORKER.decode(body)
