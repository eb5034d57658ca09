"""What every part of the controller is given: the config, the way to the other processes, and where failures go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rlx.config.schema import Config
from rlx.controller.failure import Failure
from rlx.controller.progress import PATIENCE, Progress
from rlx.datasets.order import Order
from rlx.errors import RunError
from rlx.names import LAUNCHER
from rlx.plugins.timings import CallTimings
from rlx.transport.messages import Log, Message

Answer = TypeVar("Answer", bound=Message)


class Peer(Protocol):
    """What is known of a connected client."""

    @property
    def last_heard(self) -> float: ...

    @property
    def attempt(self) -> int: ...


class Channel(Protocol):
    """The server, as far as the controller's logic needs it."""

    async def request(self, peer: str, message: Message, *, timeout: float, what: str) -> Message: ...

    async def request_all(
        self, peers: Sequence[str], message: Message, *, timeout: float, what: str
    ) -> list[Message]: ...

    async def notify(self, peer: str, message: Message) -> None: ...

    def peers(self) -> Mapping[str, Peer]: ...


class Hooks(Protocol):
    """pluggy's relay: one callable for each hook."""

    def __getattr__(self, name: str) -> Callable[..., Any]: ...


@dataclass(frozen=True)
class Context:
    """Shared by the parts of one controller."""

    config: Config
    run_dir: Path
    replicas: tuple[str, ...]
    channel: Channel
    hooks: Hooks
    failure: Failure
    progress: Progress
    costs: CallTimings
    """Of all processes."""
    order: Order | None = None
    """Of the dataset's rows, where a launch script gives one."""
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("rlx.controller"))

    @property
    def patience(self) -> float:
        """Seconds after which any wait ends; the watchdog has spoken long before."""
        return PATIENCE * self.config.run.stall_seconds

    async def ask(
        self, peer: str, message: Message, answer: type[Answer], what: str, *, timeout: float | None = None
    ) -> Answer:
        """`what` reads on after the peer's name. Raises RunError where the peer failed, answered with something
        else, or did not answer in time.
        """
        seconds = self.patience if timeout is None else timeout
        reply = await self.channel.request(peer, message, timeout=seconds, what=f"{peer} {what}")
        self.progress.moved()
        return expect(peer, reply, answer, what)

    async def ask_replicas(self, message: Message, answer: type[Answer], what: str, *, timeout: float) -> list[Answer]:
        """All of them the same; the answers come in their order. `what` reads on after "engines"."""
        replies = await self.channel.request_all(self.replicas, message, timeout=timeout, what=f"engines {what}")
        self.progress.moved()
        return [expect(peer, reply, answer, what) for peer, reply in zip(self.replicas, replies, strict=True)]

    def log(self, level: str, text: str) -> None:
        """To the controller's log, and to the people who watch the run."""
        self.logger.log(logging.getLevelNamesMapping()[level.upper()], text)
        self.tell_launcher(Log(level, text))

    def tell_launcher(self, message: Message) -> None:
        if LAUNCHER in self.channel.peers():
            self.failure.spawn(self.channel.notify(LAUNCHER, message), f"tell the launcher: {type(message).__name__}")


def expect(peer: str, reply: Message, answer: type[Answer], what: str) -> Answer:
    """`reply`, which must be an `answer`."""
    if not isinstance(reply, answer):
        raise RunError(f"{peer} answered {type(reply).__name__} where {answer.__name__} was due: {what}")
    return reply
