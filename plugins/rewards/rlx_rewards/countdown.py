"""`countdown`: 1 if the answer is an expression that reaches the target and uses each number once, else 0.

* The answer is the content of the last `<answer>...</answer>`. It may end in `= 24` if 24 is the target.
* An expression consists of whole numbers, `+ - * /`, parentheses and signs; the typographic signs for times, divided
  by and minus are understood, too. It is parsed, never executed, and evaluated in exact fractions: `7 / 3 * 3` is 7.
* It uses the given numbers, each exactly as often as it was given.
* The reference is `{"numbers": [...], "target": ...}`, as the dataset `countdown` provides it. Anything else is the
  dataset's fault and raises.
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
    **kwargs: Any,  # noqa: ARG001 - other arguments that rlx offers
) -> float:
    """Return 1.0 if the answer reaches the target, else 0.0. With an empty `tag`, the whole text is the answer.

    Raises ValueError for a malformed reference.
    """
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
    """Parse an expression; None if it contains anything that isn't allowed."""
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
    """Evaluate the tree; None for a division by zero."""
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
