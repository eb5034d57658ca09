"""Verification of a weight sync: the mean difference between the policy's log-probabilities and an engine's.

Rules:

* Log-probabilities are sent as float32, one byte string for each sequence. A thousand replicas send a thousand of them
  after every step; as Python floats they would be most of a sync's cost in the controller.
* numpy is imported inside the function: the base install, which plugin authors have, lacks it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from rlx.errors import SyncError


def pack_logprobs(logprobs: Iterable[Iterable[float]]) -> list[bytes]:
    """Encode the log-probabilities of each sequence as float32 bytes."""
    return [array("f", row).tobytes() for row in logprobs]


def mean_difference(expected: Sequence[bytes], seen: Sequence[bytes]) -> tuple[float, int]:
    """Return the mean |difference| over all tokens, and the number of tokens. NaN on either side gives NaN.

    Raises SyncError if the two have different numbers of tokens, or none.
    """
    import numpy as np

    if [len(row) for row in expected] != [len(row) for row in seen]:
        raise SyncError("policy and engine scored different numbers of tokens of the same probe; this is a bug in rlx")
    policy, engine = (np.frombuffer(b"".join(rows), np.float32).astype(np.float64) for rows in (expected, seen))
    if not policy.size:
        raise SyncError("no tokens to verify the weights with: every probe prompt is shorter than 2 tokens")
    with np.errstate(invalid="ignore"):
        return float(np.abs(policy - engine).mean()), policy.size
