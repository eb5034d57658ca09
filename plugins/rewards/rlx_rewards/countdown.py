"""`countdown`: 1 where the answer is an expression that reaches the target with each number used once, else 0.

* The answer is what the last `<answer>...</answer>` holds. `= 24` after it is allowed where 24 is the target.
* An expression has whole numbers, `+ - * /`, parentheses and signs, no other operation and no name. The signs of
  mathematics for times, divided by and minus are read too. It is parsed, never run, and computed in fractions:
  `7 / 3 * 3` is 7.
* The numbers in it are the given ones, each exactly as often as it was given.
* The reference is `{"numbers": [...], "target": ...}`, as the dataset `countdown` gives it. Any other is the dataset's
  fault and raises.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from rlx_rewards.tagged import tagged_answer

LONGEST = 400
"""Characters. A longer answer is not parsed: nesting thousands deep would exhaust the parser."""

_OPERATIONS: Mapping[type, Callable[[Fraction, Fraction], Fraction]] = MappingProxyType(
    {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
)
_SIGNS: Mapping[type, int] = MappingProxyType({ast.UAdd: 1, ast.USub: -1})
_PLAIN = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-"})
_EXPRESSION = re.compile(r"[\d+\-*/()\s]+", re.ASCII)


def countdown_reward_fn(
    to_be_evaluated: str,
    reference: Any = None,
    *,
    tag: str = "answer",
    **kwargs: Any,  # noqa: ARG001 - what rlx offers besides
) -> float:
    """1.0 or 0.0. Raises ValueError where the reference is no problem. With an empty `tag` all of the text counts."""
    numbers, target = _problem(reference)
    answer = tagged_answer(to_be_evaluated, tag)
    if answer is None or len(answer) > LONGEST:
        return 0.0
    expression, equals, result = answer.translate(_PLAIN).partition("=")
    if equals and result.strip() != str(target):
        return 0.0
    tree = _parse(expression)
    if tree is None or Counter(_numbers(tree)) != Counter(numbers):
        return 0.0
    return float(_value(tree) == target)


def _problem(reference: Any) -> tuple[list[int], int]:
    if isinstance(reference, Mapping):
        numbers, target = reference.get("numbers"), reference.get("target")
        if isinstance(target, int) and isinstance(numbers, list) and all(isinstance(one, int) for one in numbers):
            return numbers, target
    raise ValueError(
        f"countdown needs a reference answer like {{'numbers': [3, 7], 'target': 21}}, not {reference!r:.80}"
    )


def _parse(text: str) -> ast.expr | None:
    """The expression's tree, of allowed parts only; None where it is no such expression."""
    if not _EXPRESSION.fullmatch(text):
        return None
    try:
        tree = ast.parse(" ".join(text.split()), mode="eval").body
    except SyntaxError:
        return None
    return tree if _allowed(tree) else None


def _allowed(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp):
        return type(node.op) in _OPERATIONS and _allowed(node.left) and _allowed(node.right)
    if isinstance(node, ast.UnaryOp):
        return type(node.op) in _SIGNS and _allowed(node.operand)
    return isinstance(node, ast.Constant) and type(node.value) is int


def _numbers(tree: ast.expr) -> list[int]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, int)]


def _value(node: ast.expr) -> Fraction | None:
    """None where something is divided by zero."""
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left), _value(node.right)
        if left is None or right is None or (isinstance(node.op, ast.Div) and right == 0):
            return None
        return _OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand)
        return None if inner is None else _SIGNS[type(node.op)] * inner
    assert isinstance(node, ast.Constant)
    assert isinstance(node.value, int)
    return Fraction(node.value)
