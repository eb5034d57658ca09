"""Decides whether a failed process ends the run or is restarted.

Failures arrive as `Failed` (from the process itself), as `ProcessExited` (from the launcher) or as missing heartbeats;
often several of these report the same death.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from rlx.controller.health.members import Members
from rlx.controller.health.policy_restarts import PolicyRestarts
from rlx.controller.records.summary import GroupCounts
from rlx.controller.runtime.services import Services
from rlx.errors import ProcessDied, RunError, UsageError, owned
from rlx.names import POLICY, SIGNAL_EXIT_CODE
from rlx.transport.messages import Failed, ProcessExited

log = logging.getLogger(__name__)


class ReplicaRestarter(Protocol):
    """Restarts replicas that may be restarted (a part of `rlx.controller.modes.mode.Sampling`)."""

    @property
    def counts(self) -> GroupCounts: ...

    def is_current(self, name: str, attempt: int) -> bool: ...

    def is_away(self, name: str) -> bool: ...

    async def restart(self, name: str, why: str) -> bool: ...


class ProcessFailures:
    """Handles failed processes. `restarter` returns the current restarter, which changes when the run begins."""

    def __init__(
        self,
        services: Services,
        members: Members,
        policy: PolicyRestarts,
        restarter: Callable[[], ReplicaRestarter],
    ) -> None:
        self._services = services
        self._policy = policy
        self._members = members
        self._restarter = restarter

    async def failed(self, peer: str, message: Failed) -> None:
        """Handle a failure that a process reports about itself."""
        log.error("%s failed: %s\n%s", peer, message.error, message.traceback)
        if self._is_replaced(peer, self._services.channel.peers()[peer].attempt):
            return
        self._note(peer)
        error = f"{peer}: {owned(message.error, message.owner)}"
        if peer == POLICY:
            restarted = self._policy.restart(error, raised=True)
        else:
            died = message.died or self._restarter().is_away(peer)
            restarted = died and await self.restart(peer, error)
        if not restarted:
            self._services.failure.fail(RunError(error + self._restarts_so_far()))

    async def exited(self, message: ProcessExited) -> None:
        """Handle the exit of a process, reported by the launcher."""
        name, code = message.name, message.exit_code
        if self._is_replaced(name, message.attempt):
            return
        self._note(name)
        signal = code - SIGNAL_EXIT_CODE
        how = f"was killed by signal {signal}" if signal > 0 else f"ended with exit code {code}"
        if name == POLICY:
            how += f": {message.cause}" if message.cause else ""
            died = code != UsageError.exit_code
        else:
            died = signal > 0 or self._restarter().is_away(name)
        if not (died and await self.restart(name, f"{name} {how}")):
            self._services.failure.fail(ProcessDied(self._members.exited(message) + self._restarts_so_far()))

    async def restart(self, name: str, why: str) -> bool:
        """Restart a process that died for the reason `why`. Returns False if it may not be restarted."""
        self._note(name)
        if name == POLICY:
            return self._policy.restart(why)
        if not self._is_replica(name):
            return False
        self._members.leave(name)
        return await self._restarter().restart(name, why)

    def _note(self, name: str) -> None:
        """Record that a process has failed: without the policy, nothing is left to be saved."""
        if name == POLICY:
            self._services.policy.lose()

    def _is_replaced(self, name: str, attempt: int) -> bool:
        """Whether a newer attempt has replaced this one, so that reports about it are ignored."""
        if name == POLICY:
            return not self._policy.is_current(attempt)
        return self._is_replica(name) and not self._restarter().is_current(name, attempt)

    def _is_replica(self, name: str) -> bool:
        return name in self._services.replicas

    def _restarts_so_far(self) -> str:
        restarts, text = self._restarter().counts.restarts, ""
        if restarts:
            text += f"\nReplicas were started again {restarts} times ([rollout] restarts)."
        if self._policy.count:
            text += f"\nThe policy was started again {self._policy.count} times ([policy] restarts)."
        return text
