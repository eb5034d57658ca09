"""The best version of a run by an evaluation metric, and the checkpoints to keep for it.

Rules:

* Candidates are evaluated versions that training made; the initial model (version 0) is not one of them.
* Of equal values the first is the best. A value that is not finite is never the best.
* A version under evaluation may become the best, so its checkpoint is kept until the evaluation has ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlx.config.sections.checkpoint import BestConfig
from rlx.controller.records.checkpoint import path_of
from rlx.errors import RunError, did_you_mean


class Best:
    """The best of `evaluations`, a list that the caller appends to. Without a rule no version is the best."""

    def __init__(self, rule: BestConfig | None, evaluations: Sequence[Mapping[str, float]]) -> None:
        self._rule = rule
        self._evaluations = evaluations
        self._expected: set[int] = set()

    def expect(self, version: int) -> None:
        """Note that the evaluation of `version` has begun."""
        if self._rule is not None:
            self._expected.add(version)

    def expect_nothing(self) -> None:
        """Note that no evaluation is in progress."""
        self._expected.clear()

    def evaluated(self, version: int, metrics: Mapping[str, float]) -> None:
        """Note that the evaluation of `version` has ended. Raises RunError if it lacks the metric of the rule."""
        self._expected.discard(version)
        if self._rule is not None and self._rule.metric not in metrics:
            raise RunError(
                f"[checkpoint.best] metric = {self._rule.metric!r}: the evaluation has no such metric. It has "
                f"{', '.join(sorted(metrics))}.{did_you_mean(self._rule.metric, list(metrics))}"
            )

    @property
    def version(self) -> int | None:
        """The best version; None if there is none yet."""
        found = self._found()
        return None if found is None else int(found["step"])

    @property
    def spared(self) -> set[int]:
        """Versions whose checkpoints must not be removed, however old."""
        best = self.version
        return self._expected | (set() if best is None else {best})

    def entry(self, run_dir: Path) -> dict[str, object] | None:
        """Return the entry for the summary; its `checkpoint` is None if the version was not saved."""
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
