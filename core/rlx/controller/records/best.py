"""The best version of a run by an evaluation metric, and the checkpoints to keep for it.

Rules:

* Candidates are the evaluated versions that training made: not the initial model (version 0).
* A candidate's figures come from its own weights alone. With staleness, weights may change during an evaluation; its
  version is then no candidate, since the figures are those of no single checkpoint.
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
    """The best version in `evaluations`, a list that the caller appends to; none without a `rule`."""

    def __init__(self, rule: BestConfig | None, evaluations: Sequence[Mapping[str, float]]) -> None:
        self._rule = rule
        self._evaluations = evaluations
        self._in_evaluation: set[int] = set()

    def evaluation_started(self, version: int) -> None:
        """Spare `version` from now on: its evaluation may find that it is the best."""
        if self._rule is not None:
            self._in_evaluation.add(version)

    def evaluations_stopped(self) -> None:
        """Spare no version for an evaluation in progress any more."""
        self._in_evaluation.clear()

    def evaluation_ended(self, version: int, metrics: Mapping[str, float]) -> None:
        """Stop sparing `version` for its evaluation. Raises RunError if `metrics` lack the metric of the rule."""
        self._in_evaluation.discard(version)
        if self._rule is not None and self._rule.metric not in metrics:
            raise RunError(
                f"[checkpoint.best] metric = {self._rule.metric!r}: the evaluation has no such metric. It has "
                f"{', '.join(sorted(metrics))}.{did_you_mean(self._rule.metric, list(metrics))}"
            )

    @property
    def version(self) -> int | None:
        """The best version; None if there is none yet."""
        found = self._best_evaluation()
        return None if found is None else int(found["step"])

    @property
    def spared(self) -> set[int]:
        """Versions whose checkpoints must not be pruned."""
        best = self.version
        return self._in_evaluation | (set() if best is None else {best})

    def entry(self, run_dir: Path) -> dict[str, object] | None:
        """Return the entry for the summary; its `checkpoint` is None if the version was not saved."""
        found = self._best_evaluation()
        if found is None or self._rule is None:
            return None
        version, metric = int(found["step"]), self._rule.metric
        path = path_of(run_dir, version)
        checkpoint = str(path) if path.is_dir() else None
        return {"step": version, "metric": metric, "value": found[metric], "checkpoint": checkpoint}

    def _best_evaluation(self) -> Mapping[str, float] | None:
        rule = self._rule
        if rule is None:
            return None
        trained = [found for found in self._evaluations if found["step"] > 0 and is_of_one_version(found)]
        candidates = [evaluation for evaluation in trained if math.isfinite(evaluation.get(rule.metric, math.nan))]
        choose = min if rule.lowest else max
        return choose(candidates, key=lambda evaluation: evaluation[rule.metric], default=None)


def is_of_one_version(evaluation: Mapping[str, float]) -> bool:
    """Whether all tokens of an evaluation were sampled with the weights of its version, `step`.

    Evaluations without a span were made by the policy itself (SFT), or by an rlx that did not record it.
    """
    version = evaluation["step"]
    return evaluation.get("eval/version_min", version) == version == evaluation.get("eval/version_max", version)
