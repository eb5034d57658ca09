"""The processes of a run: readiness at the start, heartbeats from then on, and the exits that the launcher reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rlx.controller.runtime.services import Services
from rlx.errors import ProcessDied, RunError
from rlx.fingerprint import Fingerprints, differences, mismatch_message
from rlx.names import LOGS, POLICY
from rlx.transport.messages import PolicyReady, ProcessExited, RolloutReady


class Members:
    """The policy and the replicas of a run (SFT has no replicas)."""

    def __init__(self, services: Services, launcher: Fingerprints | None = None) -> None:
        """`launcher`: the datasets as the launcher saw them."""
        self._services = services
        self._members = dict.fromkeys((POLICY, *services.replicas))
        self._changed = asyncio.Event()
        self._given_up = False
        self._seen = ("the launcher", launcher) if launcher is not None else None
        self._away: set[str] = set()
        self.rollouts: dict[str, RolloutReady] = {}
        self.policy: PolicyReady | None = None
        self.exits: list[ProcessExited] = []
        """Reported while the run lasted."""

    @property
    def missing(self) -> list[str]:
        """Members that are not ready yet."""
        here = {*self.rollouts, *([POLICY] if self.policy else [])}
        return [name for name in self._members if name not in here]

    def policy_ready(self, message: PolicyReady) -> None:
        """Note that the policy is ready. Raises RunError if it sees other datasets than the processes before it."""
        if message.data is not None:
            self._compare(POLICY, message.data)
        self.policy = message
        self._changed.set()

    def rollout_ready(self, name: str, message: RolloutReady) -> None:
        """Note that a replica is ready. Raises RunError as `policy_ready` does."""
        self._compare(name, message.data)
        self._away.discard(name)
        self.rollouts[name] = message
        self._changed.set()

    def leave(self, name: str) -> None:
        """Expect no heartbeats of a replica until it is ready again."""
        self._away.add(name)

    def _compare(self, name: str, data: Fingerprints) -> None:
        other, seen = self._seen = self._seen or (name, data)
        if found := differences(data, seen):
            raise RunError(mismatch_message(f"{name} and {other}", found))

    async def wait(self) -> None:
        """Wait until all members are ready, or `give_up` is called.

        Raises RunError with the names of those that are not ready after `run.start_seconds`.
        """
        seconds = self._services.config.run.start_seconds
        try:
            async with asyncio.timeout(seconds):
                while self.missing and not self._given_up:
                    with self._services.progress.waiting(f"run waits for {', '.join(self.missing)} to start"):
                        await self._changed.wait()
                        self._changed.clear()
        except TimeoutError as error:
            raise RunError(
                f"not ready within {seconds:.0f} s: {', '.join(self.missing)}. "
                "Their logs show how far they came; [run] start_seconds gives them longer."
            ) from error

    def give_up(self) -> None:
        """End `wait`: the run is stopped before it has begun."""
        self._given_up = True
        self._changed.set()

    def unreached(self) -> list[str]:
        """Return the members that are not connected."""
        here = self._services.channel.peers()
        return [name for name in self._members if name not in here]

    def exited(self, message: ProcessExited) -> str:
        """Note the exit of a process, and return the error message for it."""
        self.exits.append(message)
        return f"{message.name} ended with exit code {message.exit_code}{last_lines(message)}"

    async def watch(self, restart: Callable[[str, str], Awaitable[bool]]) -> None:
        """Call `restart(name, why)` for each member that was silent for `run.heartbeat_seconds`.

        Raises ProcessDied if that returns False. Runs until it is cancelled.
        """
        limit = self._services.config.run.heartbeat_seconds
        pause = min(1.0, limit / 4)
        while True:
            asleep = time.monotonic()
            await asyncio.sleep(pause)
            # If the controller itself was held up, unread heartbeats are still in its socket: judge no member now.
            if time.monotonic() - asleep >= 2 * pause:
                continue
            for name, why in self._silent(limit):
                if not await restart(name, why):
                    raise ProcessDied(why)

    def _silent(self, limit: float) -> list[tuple[str, str]]:
        """Return the members that were silent for longer than `limit`, each with an error message."""
        now, found = time.monotonic(), []
        for name, peer in self._services.channel.peers().items():
            seconds = now - peer.last_heard
            if seconds > limit and name in self._members and name not in self._away:
                why = (
                    f"{name} has sent no heartbeat for {seconds:.0f} s ([run] heartbeat_seconds = {limit:g}) and is "
                    f"taken for dead. Its log: {self._services.run_dir / LOGS / f'{name}.log'}"
                )
                found.append((name, why))
        return found


def last_lines(message: ProcessExited) -> str:
    """Return the end of an error message, with the last lines of the process's log."""
    if not message.last_lines:
        return "; its log is empty"
    return ". The last lines of its log:\n" + "\n".join(f"  {line}" for line in message.last_lines)
