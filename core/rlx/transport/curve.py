"""CurveZMQ sockets with the keys of a run: encrypted, and open to the processes of this run only."""

from __future__ import annotations

from collections.abc import Mapping

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from rlx.boot import Endpoint
from rlx.errors import UsageError

ZAP_DOMAIN = "rlx"

Socket = zmq.Socket[bytes]
Context = zmq.Context[Socket]


def client_socket(context: Context, endpoint: Endpoint) -> Socket:
    """Return a DEALER socket that is connected to the controller."""
    socket = context.socket(zmq.DEALER)
    socket.sndhwm = socket.rcvhwm = 0
    socket.curve_serverkey = endpoint.server_public.encode()
    socket.curve_publickey = endpoint.public.encode()
    socket.curve_secretkey = endpoint.secret.encode()
    socket.connect(f"tcp://{endpoint.host}:{endpoint.port}")
    return socket


def server_socket(context: Context, endpoint: Endpoint) -> Socket:
    """Return the controller's ROUTER socket, not bound yet. It needs a running `authenticator` to let peers in."""
    socket = context.socket(zmq.ROUTER)
    socket.sndhwm = socket.rcvhwm = 0
    socket.router_mandatory = True
    socket.zap_domain = ZAP_DOMAIN.encode()
    socket.curve_server = True
    socket.curve_publickey = endpoint.server_public.encode()
    socket.curve_secretkey = endpoint.secret.encode()
    return socket


def bind(socket: Socket, endpoint: Endpoint) -> int:
    """Bind the controller's socket and return the port, a free one for port 0. Raises UsageError if it is taken."""
    host, port = endpoint.host, endpoint.port
    try:
        if port == 0:
            return socket.bind_to_random_port(f"tcp://{host}")
        socket.bind(f"tcp://{host}:{port}")
    except zmq.ZMQError as error:
        raise UsageError(
            f"the controller cannot listen on {host}:{port}: {error}. "
            "Set run.port to a free port, or to 0 to take any free one."
        ) from error
    return port


def authenticator(context: Context, client_names: Mapping[str, str]) -> AsyncioAuthenticator:
    """Return an authenticator that admits the public keys in `client_names` (key -> client name) and no others."""
    made = AsyncioAuthenticator(zmq.asyncio.Context(context))
    made.configure_curve_callback(ZAP_DOMAIN, credentials_provider=_Credentials(client_names))
    return made


class _Credentials:
    """pyzmq's credentials provider for CURVE: its `callback` admits or rejects a public key."""

    def __init__(self, client_names: Mapping[str, str]) -> None:
        self._client_names = client_names

    def callback(self, domain: str, key: bytes) -> bool:
        return domain == ZAP_DOMAIN and key.decode("ascii", "replace") in self._client_names
