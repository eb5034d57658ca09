"""What the proof of a sync compares: log-probabilities of the same tokens, of the policy's and of an engine's making.

The rule of this part: on the wire they are float32, one string of bytes a sequence. A thousand replicas send a thousand
of them after every step; as numbers of Python's own they would be most of what a sync costs the controller.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlx.errors import SyncError

_FLOAT32 = np.dtype("<f4")


def pack(logprobs: Sequence[Sequence[float]]) -> list[bytes]:
    return [np.asarray(row, _FLOAT32).tobytes() for row in logprobs]


def mean_difference(expected: Sequence[bytes], seen: Sequence[bytes]) -> tuple[float, int]:
    """Mean |difference| over all tokens, and their number. NaN on either side gives NaN. Raises SyncError on another
    shape.
    """
    if [len(row) for row in expected] != [len(row) for row in seen]:
        raise SyncError(
            "policy and engine scored different numbers of tokens of the same probe; this is a defect of rlx"
        )
    ours, theirs = (np.frombuffer(b"".join(rows), _FLOAT32).astype(np.float64) for rows in (expected, seen))
    if not ours.size:
        raise SyncError("there are no tokens to verify the weights with: every probe prompt is shorter than 2 tokens")
    with np.errstate(invalid="ignore"):
        return float(np.abs(ours - theirs).mean()), ours.size
