"""SFT rows that can't be used, with the real packer and chat-free rows."""

from __future__ import annotations

import pytest

from rlx import DecoderOnlyLLMDataPacker
from rlx.datasets.open import make_dataset
from rlx.errors import BadRowError
from rlx.packers.sft_rows import has_trained_token
from rlx.policy.train.sft_data import SFTRows
from rlx.testing.tokenizer import CharTokenizer


class Torn(list):
    reads = 0

    def __getitem__(self, index):
        type(self).reads += 1
        if super().__getitem__(index) is None:
            raise OSError("torn page")
        return super().__getitem__(index)


class MasksAll(DecoderOnlyLLMDataPacker):
    def sft_process_sample(self, item):
        return {"input_ids": [3, 4, 5], "labels": [3, -100, -100]}


GOOD = {"prompt": "1+1=", "completion": "2"}
ROWS = [GOOD, None, {"prompt": "1+1="}, {"prompt": "1+1=", "completion": "2" * 30}, GOOD, {"prompt": ""}]


def sft_rows(rows, *, drop=True, packer=DecoderOnlyLLMDataPacker):
    made = packer()
    made.setup(None, CharTokenizer())
    return SFTRows(make_dataset(rows, {}, None, CharTokenizer()), made, CharTokenizer(), 20, drop=drop)


def test_rows_that_cannot_be_used_are_left_out_with_their_reasons():
    groups, bad = sft_rows(Torn(ROWS)).read([4, 1, 2, 3, 0, 5, 4])
    assert [group[0].dataset_index for group in groups] == [4, 0, 4]
    assert [(row.row, row.reason) for row in bad] == [(1, "dataset"), (2, "packer"), (3, "too_long"), (5, "packer")]
    for row, words in zip(bad, ("torn page", "no target", "has 35 tokens; the limit is 20", "row 5"), strict=True):
        assert words in row.why, row.why
        assert f"row {row.row}" in row.why


@pytest.mark.parametrize("row", [1, 2, 3, 5])
def test_the_first_of_them_ends_the_run_if_asked_for(row):
    with pytest.raises(BadRowError, match=f"row {row}"):
        sft_rows(Torn(ROWS), drop=False).read([0, row, 4])


def test_a_row_without_a_token_to_train_on_cannot_be_used():
    groups, bad = sft_rows([GOOD], packer=MasksAll).read([0])
    assert (groups, [row.reason for row in bad]) == ([], ["untrained"])
    (trajectory,) = sft_rows([GOOD]).episode(0).trajectories
    assert has_trained_token(trajectory)


def test_good_rows_beside_a_bad_one_are_read_once():
    Torn.reads = 0
    rows = sft_rows(Torn(ROWS))
    made = Torn.reads
    rows.read([0, 1])
    groups, bad = rows.read([0, 4])
    assert (len(groups), bad, Torn.reads - made) == (2, [], 3)
    rows.read([0, 4])
    assert Torn.reads - made == 5, "they are not kept for ever"
