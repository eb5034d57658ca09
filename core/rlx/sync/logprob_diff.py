"""What the proof of a sync compares: log-probabilities of the same tokens, of the policy's and of an engine's making.

The rules of this part:

* On the wire they are float32, one string of bytes a sequence. A thousand replicas send a thousand of them after every
  step; as numbers of Python's own they would be most of what a sync costs the controller.
* numpy is imported where it is used: the base install, which plugin authors have, is without.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from rlx.errors import SyncError


def pack(logprobs: Iterable[Iterable[float]]) -> list[bytes]:
    return [array("f", row).tobytes() for row in logprobs]


def mean_difference(expected: Sequence[bytes], seen: Sequence[bytes]) -> tuple[float, int]:
    """Mean |difference| over all tokens, and their number. NaN on either side gives NaN. Raises SyncError on another
    shape.
    """
    import numpy as np

    if [len(row) for row in expected] != [len(row) for row in seen]:
        raise SyncError(
            "policy and engine scored different numbers of tokens of the same probe; this is a defect of rlx"
        )
    ours, theirs = (np.frombuffer(b"".join(rows), np.float32).astype(np.float64) for rows in (expected, seen))
    if not ours.size:
        raise SyncError("there are no tokens to verify the weights with: every probe prompt is shorter than 2 tokens")
    with np.errstate(invalid="ignore"):
        return float(np.abs(ours - theirs).mean()), ours.size
