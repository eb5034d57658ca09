"""The part of `check_reward` that asks the reward: about the author's examples, and about odd completions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from rlx.errors import RewardError
from rlx.fingerprint import digest
from rlx.rewards.bound import BoundReward
from rlx.rewards.call import RewardCaller
from rlx.rewards.messages import LENGTH, Call, Loaded, frame, to_worker
from rlx.rewards.result import Score, quote_first
from rlx.rewards.scoring import RewardInput, call_message
from rlx.testing.suites.contract import Broken, told
from rlx.testing.tokenizer import CharTokenizer

ODD_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "an empty completion": "",
        "white space": " \n\t ",
        "many scripts": "答案是４２。 Ответ: ٤٢ 🎲 e\u0301 \u202e42\u202c \u00a0½ \u22121",
        "control characters": "\x00\x1b[31m42\x7f\r\n",
        "unfinished markup": "<think>#### \\boxed{\\frac{1}{ **Answer:** $ ```",
        "100,000 characters": "so 1 + 1 = 2, " * 7143,
    }
)


@dataclass(frozen=True)
class Example:
    """A completion, its reference answer, the score that is expected (None: any), and what else rlx would offer.

    For a group reward: a list of texts, and lists of scores, of `token_ids` and of finish reasons; or those of one.
    """

    completion: str | Sequence[str]
    reference: Any = None
    expected: float | Sequence[float | None] | None = None
    prompt: str = field(default="What is it? ", kw_only=True)
    token_ids: Sequence[Any] | None = field(default=None, kw_only=True)
    """Default: one token for each character."""
    finish_reason: str | Sequence[str] = field(default="stop", kw_only=True)
    example: Any = field(default="What is it? ", kw_only=True)
    """The dataset's item."""

    @property
    def texts(self) -> list[str]:
        return [self.completion] if isinstance(self.completion, str) else list(self.completion)

    def completions(self) -> list[RewardInput]:
        """What a run would ask about."""
        count, one = len(self.texts), isinstance(self.completion, str)
        ids = [CharTokenizer().encode(text) for text in self.texts]
        if self.token_ids is not None:
            ids = [list(self.token_ids)] if one else [list(each) for each in self.token_ids]
        reasons = [self.finish_reason] * count if isinstance(self.finish_reason, str) else list(self.finish_reason)
        return [
            RewardInput(text, self.reference, self.prompt, tokens, reason, self.example)
            for text, tokens, reason in zip(self.texts, ids, reasons, strict=True)
        ]


@dataclass(frozen=True)
class Caller:
    """A reward, asked as its process asks it."""

    reward: BoundReward
    loaded: Loaded
    own: Mapping[str, Any]
    ask: RewardCaller

    def sent(self, example: Example) -> Call:
        """What its process would get. Raises RewardError where that can't be sent."""
        call = call_message(example.completions(), 0, self.loaded)
        received = to_worker(frame(call)[LENGTH.size :])
        assert isinstance(received, Call)
        return received

    def scores(self, call: Call) -> list[Score]:
        """Raises what the reward raises, and RewardError where it returns no reward."""
        return self.ask(self.reward, self.loaded, call, self.own)


def broken_example(caller: Caller, example: Example, repeatable: bool) -> Iterator[Broken]:
    """The rules that the reward breaks on an example of its author's."""
    if not (caller.loaded.group or isinstance(example.completion, str)):
        raise TypeError(f"this reward is no group reward: an example is about one text, not {example.completion!r:.80}")
    try:
        call = caller.sent(example)
    except RewardError as error:
        yield Broken("transport", str(error), "Make reference answers and items plain data.")
        return
    before = _given(call)
    try:
        scores, again = caller.scores(call), caller.scores(caller.sent(example))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever a reward raises is reported
        yield _failed("score", error, example, "Return a number for this example.")
        return
    if digest(before) != digest(_given(call)):
        seen = f"the call changed the reference answer or the dataset's item that it got. {quote_first(example.texts)}"
        yield Broken("unchanged", seen, "Work on a copy.")
    if repeatable and scores != again:
        seen = f"it gave {_plain(scores)} and then {_plain(again)}. {quote_first(example.texts)}"
        yield Broken("repeat", seen, "Keep no state between calls and draw nothing; or say repeatable=False.")
    yield from _unexpected(example, scores)


def broken_odd_texts(caller: Caller, example: Example | None, refuses: tuple[type[Exception], ...]) -> Iterator[Broken]:
    """`any-text` and `any-group`, with the reference answer of one of the author's examples where there is one."""
    known = replace(example or Example(""), token_ids=None, finish_reason="stop")
    for what, text in ODD_TEXTS.items():
        odd = replace(known, completion=[text, "a completion"] if caller.loaded.group else text)
        yield from _of_odd(caller, odd, "any-text", what, refuses, strict=example is not None)
    if caller.loaded.group:
        alone = replace(known, completion=["a completion"])
        yield from _of_odd(caller, alone, "any-group", "a single completion", refuses, strict=example is not None)


def _of_odd(
    caller: Caller, odd: Example, rule: str, what: str, refuses: tuple[type[Exception], ...], *, strict: bool
) -> Iterator[Broken]:
    todo = f"Return a number for {what} too"
    try:
        caller.scores(caller.sent(odd))
    except RewardError as error:
        yield _failed(rule, error, odd, f"{todo}.")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever a reward raises is reported
        if strict and not isinstance(error, refuses):
            yield _failed(rule, error, odd, f"{todo}; if it refuses on purpose: refuses=({type(error).__name__},).")


def _unexpected(example: Example, scores: Sequence[Score]) -> Iterator[Broken]:
    if example.expected is None:
        return
    wanted = [example.expected] if isinstance(example.expected, int | float) else list(example.expected)
    found = _plain(scores)
    if len(wanted) != len(found) or not all(map(_equal, found, wanted)):
        seen = (
            f"it gave {found}, not {wanted}, for the reference {example.reference!r:.80}. {quote_first(example.texts)}"
        )
        yield Broken("expected", seen, "Correct the reward, or the example.")


def _equal(found: float | None, wanted: float | None) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9)


def _plain(scores: Sequence[Score]) -> list[float | None]:
    return [score.value for score in scores]


def _given(call: Call) -> list[Any]:
    return copy.deepcopy([call.texts, call.reference, call.offered.get("example")])


def _failed(rule: str, error: BaseException, example: Example, todo: str) -> Broken:
    seen = str(error) if isinstance(error, RewardError) else f"{told(error)}\n{quote_first(example.texts)}"
    return Broken(rule, seen, todo)
