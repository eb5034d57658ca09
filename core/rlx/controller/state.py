"""The one state machine of a run.

STARTING -> RUNNING -> DRAINING -> DONE | FAILED. Every ending passes through DRAINING: finishing, a stop hook, a
signal and an error differ only in what is still worth doing there.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class State(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    DONE = "done"
    FAILED = "failed"


LEGAL: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.RUNNING, State.DRAINING}),
    State.RUNNING: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.DONE, State.FAILED}),
    State.DONE: frozenset(),
    State.FAILED: frozenset(),
}


class StateMachine:
    """Holds the state; `moved` hears of every change."""

    def __init__(self, moved: Callable[[State], None] = lambda _: None) -> None:
        self._state = State.STARTING
        self._moved = moved

    @property
    def state(self) -> State:
        return self._state

    @property
    def ending(self) -> bool:
        return self._state in {State.DRAINING, State.DONE, State.FAILED}

    def to(self, state: State) -> None:
        """Raises AssertionError on a transition that the machine does not have: that is a defect of the controller."""
        if state not in LEGAL[self._state]:
            raise AssertionError(f"illegal transition: {self._state} -> {state}")
        self._state = state
        self._moved(state)

    def drain(self) -> None:
        """To DRAINING, from wherever that is legal; nothing where the run is already ending."""
        if not self.ending:
            self.to(State.DRAINING)
