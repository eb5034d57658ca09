"""The state machine of a run.

STARTING -> RUNNING -> DRAINING -> DONE | FAILED. Every run ends through DRAINING, whether it completes, is stopped
by a hook or a signal, or fails.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class RunState(StrEnum):
    """The state of a run."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    DONE = "done"
    FAILED = "failed"


LEGAL: dict[RunState, frozenset[RunState]] = {
    RunState.STARTING: frozenset({RunState.RUNNING, RunState.DRAINING}),
    RunState.RUNNING: frozenset({RunState.DRAINING}),
    RunState.DRAINING: frozenset({RunState.DONE, RunState.FAILED}),
    RunState.DONE: frozenset(),
    RunState.FAILED: frozenset(),
}


class StateMachine:
    """Holds the state, and calls `changed` with every new one."""

    def __init__(self, changed: Callable[[RunState], None] = lambda _: None) -> None:
        self._state = RunState.STARTING
        self._changed = changed

    @property
    def state(self) -> RunState:
        return self._state

    @property
    def ending(self) -> bool:
        """Whether the run is draining or has ended."""
        return self._state in {RunState.DRAINING, RunState.DONE, RunState.FAILED}

    def to(self, state: RunState) -> None:
        """Change to `state`. Raises AssertionError on an illegal transition: that is a bug in the controller."""
        if state not in LEGAL[self._state]:
            raise AssertionError(f"illegal transition: {self._state} -> {state}")
        self._state = state
        self._changed(state)

    def drain(self) -> None:
        """Change to DRAINING, unless the run is ending already."""
        if not self.ending:
            self.to(RunState.DRAINING)
