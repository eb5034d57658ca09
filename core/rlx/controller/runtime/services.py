"""`Services`: the config, the connections to the other processes, hooks, failures, progress and logging.

All parts of a controller share one instance.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from rlx.config.schema import Config
from rlx.controller.runtime.failure import Failure
from rlx.controller.runtime.policy_state import PolicyState
from rlx.controller.runtime.progress import Progress
from rlx.datasets.order import EpochOrder
from rlx.errors import PeerFailed, RlxError, RunError
from rlx.names import LAUNCHER, POLICY
from rlx.plugins.hook_thread import HookLimits, HookThread
from rlx.plugins.hooks import Hooks
from rlx.plugins.timings import CallTimings, HookFailures
from rlx.transport.messages import InitTransfer, Log, Message, OpenTransfer, SendWeights

Answer = TypeVar("Answer", bound=Message)


class Peer(Protocol):
    """A connected client."""

    @property
    def last_heard(self) -> float:
        """Time of its last message or heartbeat, by `time.monotonic`."""

    @property
    def attempt(self) -> int:
        """Number of its start, counted from 1."""


class PeerChannel(Protocol):
    """The part of `rlx.transport.Server` that the controller uses to reach its clients."""

    async def request(self, peer: str, message: Message, *, timeout: float, what: str) -> Message: ...

    async def notify(self, peer: str, message: Message) -> None: ...

    def peers(self) -> Mapping[str, Peer]: ...


@dataclass
class PolicyErrors:
    """Errors of requests to the policy, which may be restarted for them."""

    restart: Callable[[str], bool] = lambda _: False
    """Returns whether the policy is restarted for this reason. All work that waits for it is cancelled then."""

    async def handle(self, error: PeerFailed) -> None:
        """Return if the policy is not restarted; else wait to be cancelled."""
        if self.restart(f"{POLICY}: {error}"):
            await asyncio.Event().wait()


@dataclass(frozen=True)
class Services:
    """The config, connections, failures and progress that the parts of a controller share."""

    config: Config
    run_dir: Path
    replicas: tuple[str, ...]
    """Names of the rollout replicas; empty in SFT."""
    channel: PeerChannel
    plugin_hooks: Hooks
    """Hooks of the enabled plugins; call them by `hooks`."""
    failure: Failure
    progress: Progress
    timings: CallTimings
    """Timings of rewards and hooks, summed over all processes."""
    hook_failures: HookFailures = field(default_factory=HookFailures)
    """Failures of hooks, summed over all processes."""
    order: EpochOrder | None = None
    """The order of the dataset's rows, if the launch script defines one."""
    policy: PolicyState = field(default_factory=PolicyState)
    policy_errors: PolicyErrors = field(default_factory=PolicyErrors)
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("rlx.controller"))

    @functools.cached_property
    def hooks(self) -> HookThread:
        """Calls hooks: `await hooks.call("rlx_step_end", step=3, metrics=metrics)`."""
        return HookThread(
            self.plugin_hooks,
            HookLimits.of(self.config.run),
            report=lambda text: self.log("warning", text),
            # The watchdog leaves it to the limit of hooks, whose message has the plugin's name.
            alive=self.progress.moved,
        )

    @property
    def patience(self) -> float:
        """Longest timeout of a request, in seconds. The watchdog has warned long before."""
        return self.config.run.patience

    async def ask(
        self,
        peer: str,
        message: Message,
        answer: type[Answer] | tuple[type[Answer], ...],
        what: str,
        *,
        timeout: float | None = None,
    ) -> Answer:
        """Send a request to `peer` and return its answer, of one of the types `answer`.

        `what` completes a sentence that begins with the peer's name, for error messages. Raises RunError if the peer
        fails, answers with another type of message, or does not answer in time.
        """
        seconds = self.patience if timeout is None else timeout
        try:
            reply = await self.channel.request(peer, message, timeout=seconds, what=f"{peer} {what}")
        except RlxError as error:
            if peer == POLICY and isinstance(error, PeerFailed):
                await self.policy_errors.handle(error)
            # A transfer may also fail because of a replica; a policy that can't go on then reports that itself.
            if peer == POLICY and not isinstance(message, OpenTransfer | InitTransfer | SendWeights):
                self.policy.lose()
            raise
        self.progress.moved()
        return check_answer(peer, reply, answer, what)

    def log(self, level: str, text: str) -> None:
        """Log `text`, and send it to the launcher for display."""
        self.logger.log(logging.getLevelNamesMapping()[level.upper()], text)
        self.notify_launcher(Log(level, text))

    def notify_launcher(self, message: Message) -> None:
        """Send `message` to the launcher in the background, if it is connected."""
        if LAUNCHER in self.channel.peers():
            name = f"send {type(message).__name__} to the launcher"
            self.failure.spawn(self.channel.notify(LAUNCHER, message), name, lasting=True)


def check_answer(peer: str, reply: Message, answer: type[Answer] | tuple[type[Answer], ...], what: str) -> Answer:
    """Return `reply`. Raises RunError if it is not an `answer`."""
    if not isinstance(reply, answer):
        expected = answer[0] if isinstance(answer, tuple) else answer
        raise RunError(f"{peer} answered {type(reply).__name__} instead of {expected.__name__}: {what}")
    return reply
