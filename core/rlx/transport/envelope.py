"""The two frames of a message: an envelope for the transport and a body for the handler.

Rule: bytes that can't be decoded are an error of the sender. They never end the receiver.
"""

from __future__ import annotations

from typing import Literal

import msgspec

import rlx.errors
from rlx.errors import PeerFailed, RlxError

Kind = Literal["ask", "tell", "reply", "error", "ack", "hello"]
"""Request, notification (not answered), and the two answers to a request; an acknowledgement, and the controller's
request for another `Hello` from a client whose connection was broken.
"""


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """The first frame. `id` matches an answer to its request; `attempt` is the sender's."""

    kind: Kind
    id: int
    attempt: int
    number: int = 0
    """Position among the messages of this sender, from 1; 0 for messages that are not sent again."""
    received: int = 0
    """The last position that the sender has received."""


class RemoteError(msgspec.Struct, frozen=True, array_like=True):
    """The body of an `error`: an exception's class name and its text."""

    type: str
    text: str


_ENVELOPES = msgspec.msgpack.Decoder(Envelope)
_ERRORS = msgspec.msgpack.Decoder(RemoteError)
_ERROR_TYPES = {
    name: kind for name, kind in vars(rlx.errors).items() if isinstance(kind, type) and issubclass(kind, RlxError)
}


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the first frame of a message."""
    return msgspec.msgpack.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """Decode the first frame of a message. Raises msgspec.MsgspecError if it isn't an envelope."""
    return _ENVELOPES.decode(data)


def encode_error(error: Exception) -> bytes:
    """Return the body for an exception. An RlxError keeps its type; any other one becomes an internal error."""
    if isinstance(error, RlxError):
        return msgspec.msgpack.encode(RemoteError(type(error).__name__, str(error)))
    return msgspec.msgpack.encode(RemoteError("", f"internal error, {type(error).__name__}: {error}"))


def decode_error(peer: str, data: bytes) -> RlxError:
    """Return the exception that `peer` sent: with its own class if that is in rlx.errors, else as PeerFailed."""
    sent = _ERRORS.decode(data)
    kind = _ERROR_TYPES.get(sent.type)
    return kind(sent.text) if kind else PeerFailed(f"{peer}: {sent.text}")
