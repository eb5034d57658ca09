"""Convert the result of a reward call to scores.

Rule: a result that isn't a reward is a RewardError with the owner and the completion.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

from rlx.errors import RewardError

EXCERPT_CHARACTERS = 300
"""The length of the excerpt of a completion that an error shows."""

ONE_RULE = "It must return a finite number, or (number, dict of numbers)."
LIST_HINT = " One that judges a prompt's completions together, in one call, is marked with @rlx.group_reward."
GROUP_RULE = (
    "It must return a list with one finite number (or None: not scored) for each completion, "
    "or that and a list of as many dicts of numbers."
)


@dataclass(frozen=True)
class Score:
    """A reward's verdict on one completion; a value of None means that it did not score it."""

    value: float | None
    metrics: dict[str, float] = field(default_factory=dict)


def score_of(result: object, owner: str, text: str) -> Score:
    """Return the result of a reward (already awaited) as a Score. Raises RewardError."""
    value, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    hint = LIST_HINT if isinstance(value, list) else ""
    rule = f"{ONE_RULE}{hint}\n{quote_first([text])}"
    return Score(_value(value, owner, rule), _metrics(metrics, owner, rule))


def scores_of(result: object, owner: str, texts: Sequence[str]) -> list[Score]:
    """Return the result of a group reward (already awaited) as a Score for each text. Raises RewardError."""
    values, metrics = result if isinstance(result, tuple) and len(result) == 2 else (result, [{}] * len(texts))
    lists = [_one_for_each(values, owner, texts), _one_for_each(metrics, owner, texts)]
    scores = []
    for number, (value, found, text) in enumerate(zip(*lists, texts, strict=True), 1):
        rule = f"{GROUP_RULE}\nCompletion {number} of {len(texts)}: {excerpt(text)}"
        scores.append(Score(None if value is None else _value(value, owner, rule), _metrics(found, owner, rule)))
    return scores


def as_number(value: object) -> float | None:
    """Return any real number, bool, or one-element array or tensor as a float; None for everything else."""
    if isinstance(value, Real):
        return float(value)
    if hasattr(value, "item"):
        try:
            inner = value.item()
        except (ValueError, RuntimeError, TypeError):  # more than one element
            return None
        return float(inner) if isinstance(inner, Real) else None
    return None


def excerpt(text: str) -> str:
    """Quote the beginning of a completion, on one line, for an error message."""
    if len(text) <= EXCERPT_CHARACTERS:
        return repr(text)
    return f"{text[:EXCERPT_CHARACTERS]!r}... ({len(text)} characters)"


def quote_first(texts: Sequence[str]) -> str:
    """Quote the completion of a call, or the first of several, for an error message."""
    what = "The completion" if len(texts) == 1 else f"The first of its {len(texts)} completions"
    return f"{what}: {excerpt(texts[0])}"


def _value(value: object, owner: str, rule: str) -> float:
    number = as_number(value)
    if number is None or not math.isfinite(number):
        raise RewardError(_not_a_reward(owner, value, rule), owner=owner)
    return number


def _metrics(metrics: object, owner: str, rule: str) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise RewardError(_not_a_reward(owner, metrics, rule, "is not a dict of metrics"), owner=owner)
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        number = as_number(value)
        if number is None:
            raise RewardError(f"{owner} returned a metric that is not a number: {name} = {value!r:.80}", owner=owner)
        numbers[str(name)] = number
    return numbers


def _one_for_each(found: object, owner: str, texts: Sequence[str]) -> list[object]:
    """Return the values or the metrics of a group reward as a list. They may be a one-dimensional array or tensor."""
    parts = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(parts, list):
        raise RewardError(_not_a_reward(owner, found, f"{GROUP_RULE}\n{quote_first(texts)}"), owner=owner)
    if len(parts) != len(texts):
        raise RewardError(
            f"{owner} returned {len(parts)} values for {len(texts)} completions. {GROUP_RULE}\n{quote_first(texts)}",
            owner=owner,
        )
    return parts


def _not_a_reward(owner: str, value: object, rule: str, verdict: str = "is not a reward") -> str:
    what = "None" if value is None else f"{type(value).__name__} {value!r:.80}"
    return f"{owner} returned {what}, which {verdict}. {rule}"
