"""What goes over the wire around a message: two frames, an envelope and a body.

The rule of this part: bytes that are not understood are an error of the sender, never the end of the receiver.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from rlx import errors
from rlx.errors import PeerFailed, RlxError

Kind = Literal["ask", "tell", "reply", "error"]


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """`id` pairs a reply, or an error, with what was asked; `attempt` fences off processes that were replaced."""

    kind: Kind
    id: int
    attempt: int


class WireError(msgspec.Struct, frozen=True, array_like=True):
    """The body of an `error`: an exception's class name and its text."""

    type: str
    text: str


_ENVELOPES = msgspec.msgpack.Decoder(Envelope)
_ERRORS = msgspec.msgpack.Decoder(WireError)
_KNOWN = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, RlxError)}

pack = msgspec.msgpack.encode


def open_envelope(data: bytes) -> Envelope:
    """Raises msgspec.MsgspecError where the bytes are no envelope."""
    return _ENVELOPES.decode(data)


def error_body(error: Exception) -> bytes:
    """A `RlxError` travels as itself; anything else is an internal error of the sender."""
    if isinstance(error, RlxError):
        return pack(WireError(type(error).__name__, str(error)))
    return pack(WireError("", f"internal error, {type(error).__name__}: {error}"))


def open_error(peer: str, data: bytes) -> RlxError:
    """The exception that `peer` sent, as the same class where rlx has it, else as `PeerFailed`."""
    sent = _ERRORS.decode(data)
    kind = _KNOWN.get(sent.type)
    return kind(sent.text) if kind else PeerFailed(f"{peer}: {sent.text}")
