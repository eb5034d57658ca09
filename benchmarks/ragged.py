"""The rows with which rlx and TRL are both fine-tuned: token ids of ragged lengths, every token trained."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import rlx

VOCABULARY = 49_152
MEDIAN, SPREAD, SHORTEST, LONGEST = 120, 0.8, 16, 512
"""Lengths are log-normal, like those of chats: most are short, and a few long."""


def rows(count: int = 128) -> list[dict[str, list[int]]]:
    """Return the same rows each time. The time doesn't depend on the tokens."""
    draw = random.Random(0)
    lengths = (round(draw.lognormvariate(math.log(MEDIAN), SPREAD)) for _ in range(count))
    return [
        {"input_ids": [draw.randrange(VOCABULARY) for _ in range(min(LONGEST, max(SHORTEST, length)))]}
        for length in lengths
    ]


class Tokens(rlx.DataPacker):
    """Takes rows of token ids, as TRL does here: the time of a tokenizer isn't measured."""

    def get_rollout_input(self, item: Mapping[str, Any]) -> Any:
        return item["input_ids"]

    def sft_process_sample(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {"input_ids": item["input_ids"], "labels": item["input_ids"]}
