"""`overlong`: DAPO's soft penalty for long completions (arXiv:2503.14476, equation 13).

With max = `max_response_length`, buffer = `buffer_length`, in tokens:

    length <= max - buffer          0
    max - buffer < length <= max    -penalty_factor * (length - (max - buffer)) / buffer
    max < length                    -penalty_factor

* The length counts sampled tokens, the end-of-text token included. The text is tokenised only if there are none (a
  call from outside rlx).
* `max_response_length` defaults to the run's `rollout.max_tokens`, and `buffer_length` to a fifth of it, which is
  DAPO's ratio (4096 of 20480).
* Lengths that contradict each other raise: with buffer >= max, every completion would be penalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DAPO_BUFFERS = 5
"""DAPO's ratio of maximum length to buffer length."""


class OverlongOptions(BaseModel):
    """Lengths are in tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_response_length: int | None = Field(None, gt=0)
    """The full penalty applies above this length; default: the run's `rollout.max_tokens`."""
    buffer_length: int | None = Field(None, gt=0)
    """The penalty grows over this many tokens before the maximum; default: a fifth of `max_response_length`."""
    penalty_factor: float = Field(1.0, ge=0, allow_inf_nan=False)
    """The full penalty."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.max_response_length is not None:
            self.buffer(self.max_response_length)
        return self

    def buffer(self, longest: int) -> int:
        """Return the buffer for responses of up to `longest` tokens. Raises ValueError if it doesn't fit."""
        buffer = max(longest // DAPO_BUFFERS, 1) if self.buffer_length is None else self.buffer_length
        if buffer >= longest:
            raise ValueError(f"buffer_length = {buffer} must be less than max_response_length = {longest}")
        return buffer


class OverlongReward:
    """A penalty for completions that come close to the maximum length or exceed it; 0 for all others."""

    def __init__(self, options: OverlongOptions | None = None) -> None:
        self._options = OverlongOptions() if options is None else options

    def __call__(
        self,
        to_be_evaluated: str,
        reference: Any = None,  # noqa: ARG002 - every reward gets one
        *,
        token_ids: Sequence[int] | None = None,
        config: Any = None,
        **kwargs: Any,
    ) -> float:
        """Return a number between -penalty_factor and 0. Raises ValueError if the length or the maximum is unknown."""
        longest = self._longest(config)
        buffer = self._options.buffer(longest)
        over = _length(to_be_evaluated, token_ids, kwargs.get("tokenizer")) - (longest - buffer)
        return 0.0 - self._options.penalty_factor * min(max(over / buffer, 0.0), 1.0)

    def _longest(self, config: Any) -> int:
        if self._options.max_response_length is not None:
            return self._options.max_response_length
        if config is None:
            raise ValueError("give max_response_length: rollout.max_tokens is unknown without a config")
        return int(config.rollout.max_tokens)


def overlong_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    max_response_length: int | None = None,
    buffer_length: int | None = None,
    penalty_factor: float = 1.0,
    **kwargs: Any,
) -> float:
    """`OverlongReward` as one function, for launch scripts and other rewards."""
    options = OverlongOptions(
        max_response_length=max_response_length, buffer_length=buffer_length, penalty_factor=penalty_factor
    )
    return OverlongReward(options)(to_be_evaluated, reference, **kwargs)


def _length(text: str, token_ids: Sequence[int] | None, tokenizer: Any) -> int:
    sampled = 0 if token_ids is None else len(token_ids)
    if sampled or not text:
        return sampled
    if tokenizer is None:
        raise ValueError("give token_ids, or a tokenizer to count the text's tokens with")
    return len(tokenizer.encode(text, add_special_tokens=False))
