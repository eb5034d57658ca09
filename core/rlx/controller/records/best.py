"""The best version: which it is, and which checkpoints may become it.

The rules of this part:

* A candidate is an evaluated version that training made; the model that the run began with is none.
* The first of equals is the best. A figure that is no finite number is never the best.
* A version whose evaluation goes on may become the best, so its checkpoint is spared meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlx.config.sections.checkpoint import BestConfig
from rlx.controller.records.checkpoint import path_of
from rlx.errors import RunError, did_you_mean


class Best:
    """Over `evaluations`, which grows from outside. Without a rule there is no best version."""

    def __init__(self, rule: BestConfig | None, evaluations: Sequence[Mapping[str, float]]) -> None:
        self._rule = rule
        self._evaluations = evaluations
        self._expected: set[int] = set()

    def expect(self, version: int) -> None:
        """Its evaluation has begun."""
        if self._rule is not None:
            self._expected.add(version)

    def expect_nothing(self) -> None:
        """No evaluation goes on."""
        self._expected.clear()

    def evaluated(self, version: int, metrics: Mapping[str, float]) -> None:
        """Raises RunError where the metric is not among those of the evaluation."""
        self._expected.discard(version)
        if self._rule is not None and self._rule.metric not in metrics:
            raise RunError(
                f"[checkpoint.best] metric = {self._rule.metric!r}: the evaluation has no such figure. It has "
                f"{', '.join(sorted(metrics))}.{did_you_mean(self._rule.metric, list(metrics))}"
            )

    @property
    def version(self) -> int | None:
        found = self._found()
        return None if found is None else int(found["step"])

    @property
    def spared(self) -> set[int]:
        """Versions whose checkpoints are not to be removed, however old."""
        best = self.version
        return self._expected | (set() if best is None else {best})

    def entry(self, run_dir: Path) -> dict[str, Any] | None:
        """What the summary says of it; `checkpoint` is None where none was written."""
        found = self._found()
        if found is None or self._rule is None:
            return None
        version, metric = int(found["step"]), self._rule.metric
        path = path_of(run_dir, version)
        checkpoint = str(path) if path.is_dir() else None
        return {"step": version, "metric": metric, "value": found[metric], "checkpoint": checkpoint}

    def _found(self) -> Mapping[str, float] | None:
        rule = self._rule
        if rule is None:
            return None
        made = [found for found in self._evaluations if found["step"] > 0]
        candidates = [found for found in made if math.isfinite(found.get(rule.metric, math.nan))]
        choose = min if rule.lowest else max
        return choose(candidates, key=lambda found: found[rule.metric], default=None)
