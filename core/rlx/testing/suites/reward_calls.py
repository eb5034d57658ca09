"""The part of `check_reward` that calls the reward: with the author's examples, and with odd completions."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from rlx.errors import BadRowError, RewardError
from rlx.fingerprint import digest
from rlx.rewards.bound import BoundReward
from rlx.rewards.call import RewardCaller
from rlx.rewards.messages import LENGTH, Call, Loaded, frame, to_worker
from rlx.rewards.result import Score, quote_first
from rlx.rewards.scoring import RewardInput, call_message
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.contract import Broken, Raised, attempt

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

Completion: TypeAlias = str | Sequence[str]
Expected: TypeAlias = float | Sequence[float | None] | None
ExampleTuple: TypeAlias = tuple[Completion, object] | tuple[Completion, object, Expected] | tuple[Completion]


@dataclass(frozen=True)
class Example:
    """A completion, its reference answer, its expected score (None: any), and other arguments that rlx offers.

    For a group reward: a list of texts, and lists of scores, `token_ids` and finish reasons, with one entry per text.
    """

    completion: Completion
    reference: object = None
    expected: Expected = None
    prompt: str = field(default="What is it? ", kw_only=True)
    token_ids: Sequence[Any] | None = field(default=None, kw_only=True)
    """Default: one token for each character."""
    finish_reason: str | Sequence[str] = field(default="stop", kw_only=True)
    example: object = field(default="What is it? ", kw_only=True)
    """The dataset's item."""

    @property
    def texts(self) -> list[str]:
        return [self.completion] if isinstance(self.completion, str) else list(self.completion)

    def inputs(self) -> list[RewardInput]:
        """Return the completions as a run scores them."""
        count, one = len(self.texts), isinstance(self.completion, str)
        ids: list[list[int]] = [CharTokenizer().encode(text) for text in self.texts]
        if self.token_ids is not None:
            ids = [[*self.token_ids]] if one else [[*each] for each in self.token_ids]
        reasons = [self.finish_reason] * count if isinstance(self.finish_reason, str) else list(self.finish_reason)
        return [
            RewardInput(text, self.reference, self.prompt, tokens, reason, self.example)
            for text, tokens, reason in zip(self.texts, ids, reasons, strict=True)
        ]


@dataclass(frozen=True)
class ExampleCaller:
    """Calls a reward as its process does."""

    reward: BoundReward
    loaded: Loaded
    own: Mapping[str, object]
    call: RewardCaller

    def received(self, example: Example) -> Call:
        """Return the call as the reward's process gets it. Raises BadRowError or RewardError if it can't be sent."""
        call = to_worker(frame(call_message(example.inputs(), 0, self.loaded))[LENGTH.size :])
        assert isinstance(call, Call)
        return call

    def scores(self, call: Call) -> list[Score]:
        """Call the reward. Raises its exceptions, and RewardError if its result isn't a score."""
        return self.call(self.reward, self.loaded, call, self.own)


def broken_example(caller: ExampleCaller, example: Example, repeatable: bool) -> Iterator[Broken]:
    """Yield the findings for one of the author's examples."""
    if not (caller.loaded.group or isinstance(example.completion, str)):
        raise TypeError(
            f"this reward is not a group reward: an example is about one text, not {example.completion!r:.80}"
        )
    try:
        call = caller.received(example)
    except (BadRowError, RewardError) as error:
        yield Broken("transport", str(error), "Make reference answers and items plain data.")
        return
    before = _given(call)
    twice = attempt(lambda: (caller.scores(call), _score(caller, example)))
    if isinstance(twice, Raised):
        yield _failed("score", twice, example, "Return a number for this example.")
        return
    scores, again = twice
    if digest(before) != digest(_given(call)):
        seen = f"the call changed the reference answer or the dataset's item that it got. {quote_first(example.texts)}"
        yield Broken("unchanged", seen, "Work on a copy.")
    values = [score.value for score in scores]
    if repeatable and scores != again:
        seen = f"it returned {values} and then {[score.value for score in again]}. {quote_first(example.texts)}"
        yield Broken("repeat", seen, "Keep no state between calls and draw nothing; or say repeatable=False.")
    if example.expected is not None:
        wanted = [example.expected] if isinstance(example.expected, int | float) else list(example.expected)
        close = [
            a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
            for a, b in zip(values, wanted, strict=False)
        ]
        if len(wanted) != len(values) or not all(close):
            reference = f"the reference {example.reference!r:.80}"
            seen = f"it returned {values}, not {wanted}, for {reference}. {quote_first(example.texts)}"
            yield Broken("expected", seen, "Correct the reward, or the example.")


@dataclass(frozen=True)
class Tried:
    """An odd text, and the exception that the reward raised at it, if any."""

    rule: str
    description: str
    example: Example
    raised: Raised | None


def try_odd_texts(caller: ExampleCaller, example: Example) -> list[Tried]:
    """Call the reward with each of the odd texts, and the reference answer of `example`."""
    base = replace(example, token_ids=None, finish_reason="stop")
    odd = [
        ("any-text", description, replace(base, completion=[text, "a completion"] if caller.loaded.group else text))
        for description, text in ODD_TEXTS.items()
    ]
    if caller.loaded.group:
        odd.append(("any-group", "a single completion", replace(base, completion=["a completion"])))
    results = [(one, attempt(partial(_score, caller, one[2]))) for one in odd]
    return [Tried(*one, result if isinstance(result, Raised) else None) for one, result in results]


def broken_odd_texts(
    tried: Sequence[Tried], *, with_reference: bool, refuses: tuple[type[Exception], ...]
) -> Iterator[Broken]:
    """Yield the findings for `any-text` and `any-group`. Without a reference answer, exceptions are no findings."""
    found = []
    for one in tried:
        todo = f"Return a number for {one.description} too"
        if one.raised is None:
            continue
        if isinstance(one.raised.error, RewardError):
            found.append(_failed(one.rule, one.raised, one.example, f"{todo}."))
        elif with_reference and not isinstance(one.raised.error, refuses):
            refusal = f"if it refuses on purpose: refuses=({type(one.raised.error).__name__},)."
            found.append(_failed(one.rule, one.raised, one.example, f"{todo}; {refusal}"))
    if len(found) == len(tried) > 1:
        # One wrong answer to everything is one finding.
        yield replace(found[0], seen=f"{found[0].seen}\nThe same holds for all other completions that were tried.")
    else:
        yield from found


def _score(caller: ExampleCaller, example: Example) -> list[Score]:
    return caller.scores(caller.received(example))


def _given(call: Call) -> list[object]:
    return copy.deepcopy([call.texts, call.reference, call.offered.get("example")])


def _failed(rule: str, raised: Raised, example: Example, todo: str) -> Broken:
    known = isinstance(raised.error, RewardError)
    return Broken(rule, str(raised.error) if known else f"{raised}\n{quote_first(example.texts)}", todo)
