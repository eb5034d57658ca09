"""Who takes part in the run: readiness at the start, heartbeats from then on, and what the launcher says of their
ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rlx.controller.context import Context
from rlx.errors import ProcessDied, RunError
from rlx.fingerprint import Fingerprints, differences, mismatch_message
from rlx.names import POLICY
from rlx.transport.messages import PolicyReady, ProcessExited, RolloutReady


class Members:
    """The policy, and the replicas of the run (none in SFT)."""

    def __init__(self, context: Context, launcher: Fingerprints | None = None) -> None:
        """`launcher`: the datasets as the launcher saw them."""
        self._context = context
        self._members = dict.fromkeys((POLICY, *context.replicas))
        self._changed = asyncio.Event()
        self._given_up = False
        self._seen = ("the launcher", launcher) if launcher is not None else None
        self._away: set[str] = set()
        self.rollouts: dict[str, RolloutReady] = {}
        self.policy: PolicyReady | None = None
        self.exits: list[ProcessExited] = []

    @property
    def missing(self) -> list[str]:
        here = {*self.rollouts, *([POLICY] if self.policy else [])}
        return [name for name in self._members if name not in here]

    def policy_ready(self, message: PolicyReady) -> None:
        """Raises RunError where it does not see the datasets that the others see; so does `rollout_ready`."""
        if message.data is not None:
            self._compare(POLICY, message.data)
        self.policy = message
        self._changed.set()

    def rollout_ready(self, name: str, message: RolloutReady) -> None:
        self._compare(name, message.data)
        self._away.discard(name)
        self.rollouts[name] = message
        self._changed.set()

    def leave(self, name: str) -> None:
        """A replica is started again: until it is ready, nobody listens for its heart."""
        self._away.add(name)

    def _compare(self, name: str, data: Fingerprints) -> None:
        other, seen = self._seen = self._seen or (name, data)
        if found := differences(data, seen):
            raise RunError(mismatch_message(f"{name} and {other}", found))

    async def wait(self) -> None:
        """Until all are ready, or nobody wants them any more. Raises RunError naming who is not, after
        `run.start_seconds`.
        """
        seconds = self._context.config.run.start_seconds
        try:
            async with asyncio.timeout(seconds):
                while self.missing and not self._given_up:
                    with self._context.progress.waiting(f"run waits for {', '.join(self.missing)} to start"):
                        await self._changed.wait()
                        self._changed.clear()
        except TimeoutError as error:
            raise RunError(
                f"not ready within {seconds:.0f} s: {', '.join(self.missing)}. "
                "Their logs say how far they came; [run] start_seconds gives them longer."
            ) from error

    def give_up(self) -> None:
        """The run is to end before it began."""
        self._given_up = True
        self._changed.set()

    def unreached(self) -> list[str]:
        """Members that are not connected (yet)."""
        here = self._context.channel.peers()
        return [name for name in self._members if name not in here]

    def exited(self, message: ProcessExited) -> str:
        """What to say of a process's end, while the run goes on."""
        self.exits.append(message)
        return f"{message.name} ended with exit code {message.exit_code}{last_lines(message)}"

    async def watch(self, replaced: Callable[[str, str], Awaitable[bool]]) -> None:
        """Raises ProcessDied when a member was silent for `run.heartbeat_seconds`, unless `replaced(name, why)`."""
        limit = self._context.config.run.heartbeat_seconds
        pause = min(1.0, limit / 4)
        while True:
            asleep = time.monotonic()
            await asyncio.sleep(pause)
            # Where the controller itself was held up, unread heartbeats lie in its socket: nobody is judged by them.
            if time.monotonic() - asleep >= 2 * pause:
                continue
            for name, why in self._silent(limit):
                if not await replaced(name, why):
                    raise ProcessDied(why)

    def _silent(self, limit: float) -> list[tuple[str, str]]:
        """Who, and what to say of it."""
        now = time.monotonic()
        silent = ((name, now - peer.last_heard) for name, peer in self._context.channel.peers().items())
        expected = self._members.keys() - self._away
        return [
            (name, self._taken_for_dead(name, seconds, limit))
            for name, seconds in silent
            if seconds > limit and name in expected
        ]

    def _taken_for_dead(self, name: str, seconds: float, limit: float) -> str:
        return (
            f"{name} has sent no heartbeat for {seconds:.0f} s ([run] heartbeat_seconds = {limit:g}) and is taken for "
            f"dead. Its log: {self._context.run_dir / 'logs' / f'{name}.log'}"
        )


def last_lines(message: ProcessExited) -> str:
    if not message.last_lines:
        return "; its log is empty"
    return ". The last lines of its log:\n" + "\n".join(f"  {line}" for line in message.last_lines)
