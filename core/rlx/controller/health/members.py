"""The processes of a run: readiness at the start, heartbeats from then on, and the exits that the launcher reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from rlx.controller.runtime.services import Services
from rlx.errors import ProcessDied, RunError
from rlx.fingerprint import Fingerprints, differences, mismatch_message
from rlx.loggers.base import READY
from rlx.names import LOGS, POLICY
from rlx.transport.messages import PolicyReady, ProcessExited, RolloutReady


class Members:
    """The policy and the replicas of a run (SFT has no replicas)."""

    def __init__(self, services: Services, launcher: Fingerprints | None = None) -> None:
        """`launcher`: fingerprints of the datasets that the launcher saw."""
        self._services = services
        self._names = (POLICY, *services.replicas)
        self._changed = asyncio.Event()
        self._waiting_stopped = False
        self._first_seen = ("the launcher", launcher) if launcher is not None else None
        self._away: set[str] = set(services.replicas)
        """Replicas that are not ready: the start of their engines blocks their heartbeats."""
        self._doing: dict[str, str] = {}
        self.rollouts: dict[str, RolloutReady] = {}
        self.policy: PolicyReady | None = None
        self.exits: list[ProcessExited] = []
        """Exits reported during the run."""

    @property
    def missing(self) -> list[str]:
        """Members that are not ready yet."""
        ready = {*self.rollouts, *([POLICY] if self.policy else [])}
        return [name for name in self._names if name not in ready]

    def doing(self, name: str, text: str) -> None:
        """Record the current activity of a process that starts."""
        self._doing[name] = text
        self._services.progress.moved()

    def activities(self) -> dict[str, str]:
        """Return the activity of each member: those that have not connected yet are importing their modules."""
        missing = self.missing
        return {name: self._doing.get(name, "starts") if name in missing else READY for name in self._names}

    def policy_ready(self, message: PolicyReady) -> None:
        """Record that the policy is ready. Raises RunError if it sees other datasets than the processes before it."""
        if message.data is not None:
            self._check_datasets(POLICY, message.data)
        self.policy = message
        self._services.policy.regain()
        self._services.policy.vocab_size = message.vocab_size
        self._away.discard(POLICY)
        self._changed.set()

    def rollout_ready(self, name: str, message: RolloutReady) -> None:
        """Record that a replica is ready. Raises RunError as `policy_ready` does."""
        self._check_datasets(name, message.data)
        self._away.discard(name)
        self.rollouts[name] = message
        self._changed.set()

    def leave(self, name: str) -> None:
        """Expect no heartbeats from a replica until it is ready again."""
        self._away.add(name)

    def leave_policy(self) -> None:
        """Expect neither heartbeats nor work from the policy until it is ready again."""
        self.policy = None
        self._away.add(POLICY)

    async def wait_for_policy(self) -> None:
        """Wait until the policy is ready."""
        with self._services.progress.waiting(f"run waits for {POLICY} to start again"):
            while self.policy is None:
                self._changed.clear()
                await self._changed.wait()

    def _check_datasets(self, name: str, data: Fingerprints) -> None:
        first, expected = self._first_seen = self._first_seen or (name, data)
        if found := differences(data, expected):
            raise RunError(mismatch_message(f"{name} and {first}", found))

    async def wait(self) -> None:
        """Wait until all members are ready, or `stop_waiting` is called.

        Raises RunError with the names of those that are not ready after `run.start_seconds`.
        """
        seconds = self._services.config.run.start_seconds
        try:
            async with asyncio.timeout(seconds):
                while self.missing and not self._waiting_stopped:
                    with self._services.progress.waiting(f"run waits for {', '.join(self.missing)} to start"):
                        await self._changed.wait()
                        self._changed.clear()
        except TimeoutError as error:
            raise RunError(
                f"not ready within {seconds:.0f} s: {self._missing_at()}. "
                "Their logs show how far they got; [run] start_seconds gives them more time."
            ) from error

    def _missing_at(self) -> str:
        """Return the members that are not ready, each with what it does."""
        activities = self.activities()
        return ", ".join(f"{name} ({activities[name]})" for name in self.missing)

    def stop_waiting(self) -> None:
        """Make `wait` return: the run is stopped before it has begun."""
        self._waiting_stopped = True
        self._changed.set()

    def unreached(self) -> list[str]:
        """Return the members that are not connected, or whose engine is starting: they don't answer before it has."""
        connected = self._services.channel.peers()
        return [name for name in self._names if name not in connected or name in self._away]

    def exited(self, message: ProcessExited) -> str:
        """Record the exit of a process, and return the error message for it."""
        self.exits.append(message)
        return f"{message.name} ended with exit code {message.exit_code}{last_lines(message)}"

    async def watch(self, restart: Callable[[str, str], Awaitable[bool]]) -> None:
        """Call `restart(name, why)` for each member that has sent nothing for `run.heartbeat_seconds`.

        Raises ProcessDied if that returns False. Runs until it is cancelled.
        """
        limit = self._services.config.run.heartbeat_seconds
        pause = min(1.0, limit / 4)
        while True:
            before = time.monotonic()
            await asyncio.sleep(pause)
            # If the controller itself was blocked, unread heartbeats may still be in its socket: skip this check.
            if time.monotonic() - before >= 2 * pause:
                continue
            for name, why in self._silent(limit):
                if not await restart(name, why):
                    raise ProcessDied(why)

    def _silent(self, limit: float) -> list[tuple[str, str]]:
        """Return the members that have sent nothing for `limit` seconds, each with an error message."""
        now, found = time.monotonic(), []
        for name, peer in self._services.channel.peers().items():
            seconds = now - peer.last_heard
            if seconds > limit and name in self._names and name not in self._away:
                why = (
                    f"{name} has sent no heartbeat for {seconds:.0f} s ([run] heartbeat_seconds = {limit:g}) and is "
                    f"considered dead. Its log: {self._services.run_dir / LOGS / f'{name}.log'}"
                )
                found.append((name, why))
        return found


def last_lines(message: ProcessExited) -> str:
    """Return the end of an error message: the exception that ended the process, or the last lines of its log."""
    if message.cause:
        return f": {message.cause}"
    if not message.last_lines:
        return "; its log is empty"
    return ". The last lines of its log:\n" + "\n".join(f"  {line}" for line in message.last_lines)
