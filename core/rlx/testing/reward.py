"""The contract suite of rewards: `check_reward`.

The rule of this part: a completion is scored as a run scores it. It travels to the reward as MessagePack, with what rlx
offers besides; the result is read by the code that a reward process reads it with. Only the process itself is missing,
so that the debugger of an author's test stops in the author's function. A group reward is asked about groups of one.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rlx.api.fingerprint import digest
from rlx.api.reward import BoundReward, Score, check_reward_args, score_of, scores_of, shown
from rlx.errors import RewardError
from rlx.rollout.rewards.calls import LENGTH, Call, frame, to_worker
from rlx.testing.contract import Broken, demand, example_config, name_of, told
from rlx.testing.tokenizer import CharTokenizer

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A reward is a function, or a class whose instances are called, and its args fit its signature.",
        "arguments": "It takes the completion and the reference answer by position.",
        "transport": "What it is given can be sent to its process: text, numbers, lists, mappings, arrays.",
        "score": "It returns a finite number, or (number, dict of numbers); a group reward a list of as many.",
        "expected": "It returns what the example expects.",
        "repeat": "The same completion gets the same score every time.",
        "unchanged": "It leaves the reference answer and the dataset's item as they are.",
        "any-text": "A policy may write anything: whatever the completion, it gets a number, and never None or NaN.",
    }
)

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


@dataclass(frozen=True, kw_only=True)
class _Offered:
    prompt: str = "What is it? "
    token_ids: Sequence[int] | None = None
    """Default: as the character tokenizer has it."""
    finish_reason: str = "stop"
    example: Any = "What is it? "


@dataclass(frozen=True)
class Example(_Offered):
    """A completion, its reference answer, the score that is expected (None: any), and what else rlx would offer."""

    completion: str
    reference: Any = None
    expected: float | None = None


def check_reward(
    target: Any,
    *,
    args: Mapping[str, Any] | None = None,
    examples: Iterable[Example | tuple[Any, ...]] = (),
    config: Any = None,
    tokenizer: Any = None,
    data_packer: Any = None,
    repeatable: bool = True,
    refuses: tuple[type[Exception], ...] = (),
) -> None:
    """Raises ContractError, with every rule of RULES that the reward breaks.

    examples: `(completion, reference)`, `(completion, reference, expected score)`, or an `Example`.
    config, tokenizer, data_packer: what the reward gets where it takes them; default: a stand-in, None for the packer.
    repeatable: False for a reward that cannot repeat itself, such as a judge that samples.
    refuses: exceptions by which it refuses a completion on purpose. With an example's reference answer, any other
    exception breaks `any-text`; without examples, exceptions are taken to be about the missing reference answer.
    """
    __tracebackhide__ = True
    own = {
        "config": example_config() if config is None else config,
        "tokenizer": CharTokenizer() if tokenizer is None else tokenizer,
        "data_packer": data_packer,
    }
    given = [one if isinstance(one, Example) else Example(*one) for one in examples]
    subject = f"reward {name_of(target)}"
    demand(subject, RULES, _broken(target, dict(args or {}), subject, given, own, repeatable, refuses))


def _broken(
    target: Any,
    args: Mapping[str, Any],
    subject: str,
    examples: Sequence[Example],
    own: Mapping[str, Any],
    repeatable: bool,
    refuses: tuple[type[Exception], ...],
) -> Iterator[Broken]:
    try:
        check_reward_args(target, args, owner=subject, where="args")
        reward = BoundReward(target, args)
    except Exception as error:  # noqa: BLE001 - the boundary: a class's constructor ran
        yield Broken("options", told(error), "Give it the args that a config would, or correct its signature.")
        return
    if not _takes_two(target):
        seen = f"it takes {_signature(target)}"
        yield Broken("arguments", seen, "Write it as `def reward(to_be_evaluated, reference=None, **kwargs)`.")
        return
    with asyncio.Runner() as runner:
        caller = _Caller(reward, subject, own, runner)
        for example in examples:
            yield from _of_example(caller, example, repeatable)
        yield from _of_odd_texts(caller, examples, refuses)


def _signature(target: Any) -> inspect.Signature:
    signature = inspect.signature(target.__call__ if inspect.isclass(target) else target)
    parameters = list(signature.parameters.values())
    return signature.replace(parameters=parameters[inspect.isclass(target) :])


def _takes_two(target: Any) -> bool:
    try:
        _signature(target).bind_partial("completion", "reference")
    except TypeError:
        return False
    return True


class _Caller:
    """A reward with its options, called as a reward process calls it."""

    def __init__(self, reward: BoundReward, owner: str, own: Mapping[str, Any], runner: asyncio.Runner) -> None:
        self._reward = reward
        self._owner = owner
        self._own = own
        self._runner = runner

    def sent(self, example: Example) -> Call:
        """What its process would be sent of `example`. Raises RewardError where it can't be."""
        ids = CharTokenizer().encode(example.completion) if example.token_ids is None else list(example.token_ids)
        offered = {
            "prompt": example.prompt,
            "token_ids": [ids] if self._reward.group else ids,
            "finish_reason": [example.finish_reason] if self._reward.group else example.finish_reason,
            "example": example.example,
        }
        call = to_worker(frame(Call(0, [example.completion], example.reference, offered))[LENGTH.size :])
        assert isinstance(call, Call)
        return call

    def score(self, call: Call) -> Score:
        """Raises what the reward raises, and RewardError where it returns no reward."""
        evaluated = call.texts if self._reward.group else call.texts[0]
        result = self._reward(evaluated, call.reference, {**self._own, **call.offered})
        if inspect.isawaitable(result):
            result = self._runner.run(_awaited(result))
        if self._reward.group:
            return scores_of(result, self._owner, call.texts)[0]
        return score_of(result, self._owner, call.texts[0])


async def _awaited(result: Any) -> Any:
    return await result


def _of_example(caller: _Caller, example: Example, repeatable: bool) -> Iterator[Broken]:
    try:
        call = caller.sent(example)
    except RewardError as error:
        yield Broken("transport", str(error), "Make reference answers and items plain data.")
        return
    before = copy.deepcopy((call.reference, call.offered["example"]))
    try:
        score, again = caller.score(call), caller.score(caller.sent(example))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever a reward raises is reported
        yield _failed("score", error, example, "Return a finite number for this example.")
        return
    if digest([*before]) != digest([call.reference, call.offered["example"]]):
        seen = f"the call for {shown(example.completion)} changed the reference answer or the example that it was given"
        yield Broken("unchanged", seen, "Work on a copy.")
    if repeatable and score != again:
        seen = f"{shown(example.completion)} got {score} and then {again}"
        yield Broken("repeat", seen, "Keep no state between calls and draw nothing; or say repeatable=False.")
    if not _as_expected(score, example):
        reference = f"(reference: {example.reference!r:.80})"
        seen = f"{shown(example.completion)} got {score.value}, not {example.expected} {reference}"
        yield Broken("expected", seen, "Correct the reward, or the example.")


def _as_expected(score: Score, example: Example) -> bool:
    if example.expected is None:
        return True
    return score.value is not None and math.isclose(score.value, example.expected, rel_tol=1e-6, abs_tol=1e-9)


def _of_odd_texts(
    caller: _Caller, examples: Sequence[Example], refuses: tuple[type[Exception], ...]
) -> Iterator[Broken]:
    reference = examples[0].reference if examples else None
    for what, text in ODD_TEXTS.items():
        example = Example(text, reference)
        try:
            caller.score(caller.sent(example))
        except RewardError as error:
            yield _failed("any-text", error, example, f"Return a number for {what} too.")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the boundary: whatever a reward raises is reported
            if examples and not isinstance(error, refuses):
                todo = f"Return a number for {what} too; if it refuses on purpose: refuses=({type(error).__name__},)."
                yield _failed("any-text", error, example, todo)


def _failed(rule: str, error: BaseException, example: Example, todo: str) -> Broken:
    seen = (
        str(error) if isinstance(error, RewardError) else f"{told(error)}\nThe completion: {shown(example.completion)}"
    )
    return Broken(rule, seen, todo)
