"""Algorithms: how rewards become a gradient.

Files:
    base.py           the contract, `Algorithm`, and the data that its loss gets
    losses.py         building blocks: advantages, objectives, importance weights, KL, aggregation
    grpo.py, sft.py   the built-in algorithms
    make.py           makes the algorithm that a config names

Rule: a loss is a micro-batch's share of the step's loss. Shares add up, so that the gradient does not depend on how the
step was split into micro-batches and ranks.

The modules of 0.1 that `losses` replaced (advantages, aggregation, correction, objectives) work for one more release.
"""

from __future__ import annotations

from rlx.moved import moved_modules

_MOVED = dict.fromkeys(("advantages", "aggregation", "correction", "objectives"), "rlx.algorithms.losses")

globals().update(moved_modules(__name__, _MOVED))
