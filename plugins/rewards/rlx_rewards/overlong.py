"""`overlong`: DAPO's soft punishment of long completions (arXiv:2503.14476, equation 13).

With max = `max_response_length`, buffer = `buffer_length`, in tokens:

    length <= max - buffer          0
    max - buffer < length <= max    -penalty_factor * (length - (max - buffer)) / buffer
    max < length                    -penalty_factor

* The length is that of the tokens that were sampled, the end-of-text token among them. Only where there are none (a
  call from outside rlx) is the text tokenised.
* `max_response_length` is the run's `rollout.max_tokens` where it is not given; `buffer_length` is a fifth of it, which
  is DAPO's proportion (4096 of 20480).
* Lengths that contradict each other raise: with buffer >= max, every completion would be punished.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

DAPO_BUFFERS = 5
"""How many buffers DAPO's maximal length holds."""


class OverlongReward:
    """The reward with its lengths, which are checked when it is made: ValueError where they make no sense."""

    def __init__(
        self, max_response_length: int | None = None, buffer_length: int | None = None, penalty_factor: float = 1.0
    ) -> None:
        if penalty_factor < 0:
            raise ValueError(f"penalty_factor = {penalty_factor:g} would be a bonus for long completions")
        if buffer_length is not None and buffer_length < 1:
            raise ValueError(f"buffer_length = {buffer_length} must be at least 1")
        self._max, self._buffer, self._factor = max_response_length, buffer_length, penalty_factor
        if max_response_length is not None:
            self._lengths(max_response_length)

    def __call__(
        self,
        to_be_evaluated: str,
        reference: Any = None,  # noqa: ARG002 - every reward is given one
        *,
        token_ids: Sequence[int] | None = None,
        config: Any = None,
        **kwargs: Any,
    ) -> float:
        """Between -penalty_factor and 0. Raises ValueError where the length, or the longest one, can't be known."""
        longest, buffer = self._lengths(self._longest(config))
        over = _length(to_be_evaluated, token_ids, kwargs.get("tokenizer")) - (longest - buffer)
        return 0.0 - self._factor * min(max(over / buffer, 0.0), 1.0)

    def _longest(self, config: Any) -> int:
        if self._max is not None:
            return self._max
        if config is None:
            raise ValueError(
                "give max_response_length: without a config there is no rollout.max_tokens to take it from"
            )
        return int(config.rollout.max_tokens)

    def _lengths(self, longest: int) -> tuple[int, int]:
        buffer = max(longest // DAPO_BUFFERS, 1) if self._buffer is None else self._buffer
        if buffer >= longest:
            raise ValueError(f"buffer_length = {buffer} must be less than max_response_length = {longest}")
        return longest, buffer


def overlong_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    max_response_length: int | None = None,
    buffer_length: int | None = None,
    penalty_factor: float = 1.0,
    **kwargs: Any,
) -> float:
    """The reward as one function, for launch scripts and other rewards."""
    reward = OverlongReward(max_response_length, buffer_length, penalty_factor)
    return reward(to_be_evaluated, reference, **kwargs)


def _length(text: str, token_ids: Sequence[int] | None, tokenizer: Any) -> int:
    sampled = 0 if token_ids is None else len(token_ids)
    if sampled or not text:
        return sampled
    if tokenizer is None:
        raise ValueError("give token_ids, or a tokenizer to count the text's tokens with")
    return len(tokenizer.encode(text, add_special_tokens=False))
