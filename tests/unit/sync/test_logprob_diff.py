from __future__ import annotations

import math

import pytest

from rlx.errors import SyncError
from rlx.sync.logprob_diff import mean_difference, pack


def test_mean_difference_is_over_tokens_not_sequences():
    assert mean_difference(pack([[0.0, 0.0, 0.0], [0.0]]), pack([[1.0, -1.0, 0.0], [2.0]])) == (1.0, 4)


@pytest.mark.parametrize("seen", [[[1.0]], [[1.0, 2.0, 3.0]], []])
def test_scores_of_another_shape_are_refused(seen):
    with pytest.raises(SyncError):
        mean_difference(pack([[1.0, 2.0]]), pack(seen))


def test_nothing_to_compare_is_no_proof():
    with pytest.raises(SyncError, match="no tokens to verify"):
        mean_difference([], [])


@pytest.mark.parametrize("odd", [[math.nan, -1.0], [-math.inf, -1.0]])
def test_what_is_no_number_gives_none(odd):
    """Whatever the other side says: NaN is within no bound."""
    assert math.isnan(mean_difference(pack([odd]), pack([odd]))[0])
