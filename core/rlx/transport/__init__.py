"""Typed messages between the processes of a run, over ZeroMQ sockets that are encrypted and authenticated.

* `messages.py`: every message, with its encoding.
* `failure.py`: builds the message that reports the exception that ends a process.
* `keys.py`: the CurveZMQ keys of one run.
* `curve.py`: sockets that are set up with these keys.
* `zmq_loop.py`: a ZeroMQ socket in an asyncio event loop.
* `envelope.py`: the frame that precedes each message, and errors as bytes.
* `conversation.py`: requests, answers and notifications between two processes.
* `server.py`: the controller's side.
* `client.py`: the side of all other processes, for async code.
* `sync_client.py`: the client for code that doesn't await (the policy).

Rules:

* The controller is the only server; clients never connect to each other.
* Every wait has a timeout whose error names the operation and the peer.
"""

from __future__ import annotations
