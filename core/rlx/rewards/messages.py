"""The messages between the pool and its workers: MessagePack frames, each with its length in 4 bytes before it.

Pool to worker: one `Start`, then one `Call` after another, each only after the answer to the one before.
Worker to pool: `Ready` or `LoadFailed`, then for each call `Scored` or `CallFailed`.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from rlx.boot import Boot
from rlx.errors import BadRowError, RewardError
from rlx.rewards.result import Score
from rlx.rewards.serialization import UNSENDABLE, to_plain, why_unsendable

LENGTH = struct.Struct(">I")


class RewardSpec(msgspec.Struct, frozen=True):
    """One reward to load: a plugin's name, its options, and whether the config makes it a group reward."""

    name: str
    args: dict[str, Any] = {}
    group: bool | None = None


class Start(msgspec.Struct, frozen=True, tag=True):
    """Load these rewards. A call names one by its index in the list."""

    boot: Boot
    rewards: list[RewardSpec]


class Call(msgspec.Struct, frozen=True, tag=True):
    """Score a completion with reward number `reward` of the Start, or all of a prompt's if it is a group reward."""

    reward: int
    texts: list[str]
    reference: Any
    offered: dict[str, Any]


class Loaded(msgspec.Struct, frozen=True):
    """A reward that the worker has loaded."""

    owner: str
    """The reward's name and distribution, for errors."""
    wants: list[str]
    """Which of the offers that only the pool has (prompt, example ...) it accepts."""
    group: bool
    """Whether one call gets all completions of a prompt."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The rewards are loaded; they are in the order of the Start."""

    rewards: list[Loaded]
    hook_failures: dict[str, int] = {}
    """Plugin -> failures of its hooks so far, if `[plugins] best_effort` lists it."""


class LoadFailed(msgspec.Struct, frozen=True, tag="Broken"):
    """A reward could not be loaded; the worker exits."""

    error: str
    usage: bool
    """Whether the user's config or plugin is at fault (exit code 2)."""


class Scored(msgspec.Struct, frozen=True, tag=True):
    """One score for each of the call's texts."""

    scores: list[Score]
    seconds: float
    """How long the call took."""


class CallFailed(msgspec.Struct, frozen=True, tag="Raised"):
    """The reward raised, or its result isn't a reward."""

    error: str
    """The message, with the reward's owner and the completion."""
    seconds: float
    trace: str = ""
    """The lines of the reward's code that led there, if it raised."""
    unreachable: bool = False
    """Whether it raised because nothing listens at an address."""


ToWorker = Start | Call
FromWorker = Ready | LoadFailed | Scored | CallFailed

_TO_WORKER: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_FROM_WORKER: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker, where: str = "the row") -> bytes:
    """Return the bytes of one message.

    Raises BadRowError if a reference or item can't be sent, and RewardError if anything else can't; `where` names the
    row.
    """
    try:
        body = msgspec.msgpack.encode(message, enc_hook=to_plain)
    except UNSENDABLE as error:
        from_dataset: dict[str, object] = {}
        if isinstance(message, Call):
            from_dataset = {"reference": message.reference, "item": message.offered.get("example")}
        if found := why_unsendable(from_dataset):
            raise BadRowError(f"{where}: {found}", reason="dataset") from error
        raise RewardError(f"{where}: {error}") from error
    return LENGTH.pack(len(body)) + body


def to_worker(body: bytes) -> ToWorker:
    """Decode a message for the worker."""
    return _TO_WORKER.decode(body)


def from_worker(body: bytes) -> FromWorker:
    """Decode a message from the worker."""
    return _FROM_WORKER.decode(body)
