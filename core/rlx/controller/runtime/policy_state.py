"""Whether the policy is whole: a run that fails for another reason saves it first."""

from __future__ import annotations

import asyncio


class PolicyState:
    """Whether the policy's process still lives and obeys, as far as the controller knows."""

    def __init__(self) -> None:
        self._lost = asyncio.Event()
        self.vocab_size = 0
        """Token ids of its model; 0 if that is unknown."""

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def lose(self) -> None:
        """Record that the policy has died, has stopped responding, or has failed to carry out a command."""
        self._lost.set()

    def regain(self) -> None:
        """Record that a new policy process is ready."""
        self._lost.clear()

    async def wait_until_lost(self) -> None:
        await self._lost.wait()
