"""Routes the messages of other processes to the parts of the controller that handle them."""

from __future__ import annotations

from rlx.controller.groups.received import UnusableGroupError
from rlx.controller.health.members import Members
from rlx.controller.health.process_failures import ProcessFailures
from rlx.controller.run import Run
from rlx.controller.runtime.services import Services
from rlx.errors import ProcessDied, RunError
from rlx.transport.messages import (
    CheckpointWritten,
    Doing,
    Drain,
    Failed,
    GroupDone,
    GroupFailed,
    Log,
    Message,
    PolicyReady,
    ProcessExited,
    RolloutReady,
    RolloutStats,
    SaveNow,
)


class MessageRouter:
    """Passes each message to the members, the run or the process failures."""

    def __init__(self, services: Services, members: Members, run: Run, failures: ProcessFailures) -> None:
        self._services = services
        self._members = members
        self._run = run
        self._failures = failures

    async def route(self, peer: str, message: Message) -> None:
        """Handle a message from `peer`. Raises if that fails, and RunError for a message of an unexpected type."""
        match message:
            case GroupDone() | GroupFailed():
                self._services.timings.merge(message.costs)
                self._services.hook_failures.merge(message.hook_failures)
                await self._take_group(peer, message)
            case RolloutStats():
                await self._run.sampling.handle(peer, message)
            case RolloutReady():
                self._members.rollout_ready(peer, message)
                await self._run.sampling.handle(peer, message)
            case PolicyReady():
                self._services.timings.merge(message.costs)
                self._services.hook_failures.merge(message.hook_failures)
                self._members.policy_ready(message)
            case Doing():
                self._members.doing(peer, message.text)
            case Log():
                self._services.log(message.level, f"{peer}: {message.text}")
            case CheckpointWritten():
                self._run.checkpoint_written(message)
            case Drain():
                self._run.drain(message.reason)
            case SaveNow():
                self._run.save_now(message.reason)
            case Failed():
                await self._failures.failed(peer, message)
            case ProcessExited():
                await self._failures.exited(message)
            case _:
                raise RunError(f"{peer} sent {type(message).__name__}, which the controller does not handle")

    async def _take_group(self, replica: str, message: GroupDone | GroupFailed) -> None:
        """Pass on a group. A replica that sends nonsense is restarted, as one that died."""
        try:
            await self._run.sampling.handle(replica, message)
        except UnusableGroupError as error:
            if not self._run.sampling.is_current(replica, self._services.channel.peers()[replica].attempt):
                return  # it is being restarted already
            why = f"{replica} does not work: {error}"
            if not await self._failures.restart(replica, why):
                raise ProcessDied(why) from error
