from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """The scorer's reply to one request. `body` may be raw text; None scores each completion by its length."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    """Send nothing until the test is over."""
    hangs_up: bool = False
    """Close the connection instead of replying."""


class ScorerServer(ThreadingHTTPServer):
    """A real HTTP server on a free port: sends `replies` in turn, then plain scores, and records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/score"
        self.replies: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def next_reply(self, headers: dict[str, str], question: dict[str, Any]) -> Reply:
        with self._lock:
            self.headers.append(headers)
            self.asked.append(question)
            return self.replies.pop(0) if self.replies else Reply()

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that have disconnected."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScorerServer

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.next_reply(dict(self.headers), question)
        if reply.silent:
            self.server.over.wait(60)
        if reply.silent or reply.hangs_up:
            self.close_connection = True
            return
        body = {"rewards": [len(text) for text in question["completions"]]} if reply.body is None else reply.body
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ScorerServer]:
    with ScorerServer() as scorer:
        thread = threading.Thread(target=scorer.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scorer
        scorer.over.set()
        scorer.shutdown()
        thread.join()
