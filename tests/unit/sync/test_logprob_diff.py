from __future__ import annotations

import math

import pytest

from rlx.errors import SyncError
from rlx.sync.logprob_diff import mean_difference, pack_logprobs


def test_mean_difference_is_over_tokens_not_sequences():
    assert mean_difference(pack_logprobs([[0.0, 0.0, 0.0], [0.0]]), pack_logprobs([[1.0, -1.0, 0.0], [2.0]])) == (
        1.0,
        4,
    )


@pytest.mark.parametrize("seen", [[[1.0]], [[1.0, 2.0, 3.0]], []])
def test_scores_of_another_shape_are_refused(seen):
    with pytest.raises(SyncError):
        mean_difference(pack_logprobs([[1.0, 2.0]]), pack_logprobs(seen))


def test_comparing_no_tokens_is_an_error():
    with pytest.raises(SyncError, match="no tokens to verify"):
        mean_difference([], [])


@pytest.mark.parametrize("logprobs", [[math.nan, -1.0], [-math.inf, -1.0]])
def test_nan_and_infinity_give_nan(logprobs):
    """NaN exceeds every bound, even if both sides agree."""
    assert math.isnan(mean_difference(pack_logprobs([logprobs]), pack_logprobs([logprobs]))[0])
