"""`format`: 1 if the completion is `<think>...</think>` followed by `<answer>...</answer>`, else 0.

* Each of the four tags occurs exactly once, in this order, with only white space before, between and after the two
  parts. The content of the parts doesn't matter; they may be empty.
* If the chat template ends the prompt with `<think>`, the completion begins after it.
"""

from __future__ import annotations

import re
from typing import Any

OPENING = "<think>"
_TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_TAG = re.compile(r"</?(?:think|answer)>")
_SHAPE = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)


def format_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,  # noqa: ARG001 - every reward gets one
    *,
    prompt: Any = "",
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 for `<think>...</think><answer>...</answer>`, else 0.0."""
    opened = isinstance(prompt, str) and prompt.rstrip().endswith(OPENING)
    text = f"{OPENING}{to_be_evaluated}" if opened else to_be_evaluated
    return float(_TAG.findall(text) == _TAGS and _SHAPE.fullmatch(text) is not None)
