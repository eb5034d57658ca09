"""The contract suite of rewards: `check_reward`.

The rule of this part: a completion is scored as a run scores it. It travels to the reward as MessagePack, with what rlx
offers besides, and the result is read by the code of the reward process. Only the process itself is missing, so that
the debugger of an author's test stops in the author's function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from types import MappingProxyType
from typing import Any

from rlx.rewards.bound import BoundReward, check_reward_args
from rlx.rewards.call import RewardCaller, loaded_message
from rlx.testing.suites.contract import Broken, demand, example_config, name_of, told
from rlx.testing.suites.reward_calls import Caller, Example, broken_example, broken_odd_texts
from rlx.testing.tokenizer import CharTokenizer

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A reward is a function, or a class whose instances are called; it takes the completion and the "
        "reference answer by position, and its args fit its signature.",
        "transport": "What it is given can be sent to its process: text, numbers, lists, mappings, arrays.",
        "score": "It returns a finite number, or (number, dict of numbers); a group reward returns a list of numbers "
        "(None: not scored), or that and a list of dicts.",
        "expected": "It returns what the example expects.",
        "repeat": "The same completion gets the same score every time.",
        "unchanged": "It leaves the reference answer and the dataset's item as they are.",
        "any-text": "A policy may write anything: whatever the completion, it gets a number, and never None or NaN.",
        "any-group": "A group reward bears any number of completions, from one on.",
    }
)


def check_reward(
    target: Any,
    *,
    args: Mapping[str, Any] | None = None,
    examples: Iterable[Example | tuple[Any, ...]] = (),
    group: bool | None = None,
    config: Any = None,
    tokenizer: Any = None,
    data_packer: Any = None,
    repeatable: bool = True,
    refuses: tuple[type[Exception], ...] = (),
) -> None:
    """Raises ContractError, with every rule of RULES that the reward breaks.

    examples: `(completion, reference)`, `(completion, reference, expected score)`, or an `Example`. For a group reward
    a completion is a list of texts, and what is expected a list of scores.
    group: as in the config; default: what the reward's author says (`@rlx.group_reward`).
    config, tokenizer, data_packer: what the reward gets where it takes them; default: a config of defaults, a character
    tokenizer, no packer.
    repeatable: False for a reward that cannot repeat itself, such as a judge that samples.
    refuses: exceptions by which it refuses a completion on purpose. With an example's reference answer, any other
    exception breaks `any-text`; without examples, exceptions are taken to be about the missing reference answer.

    Rewards that are async run in an event loop of its own: it is called from a plain function, not from an async one.
    """
    __tracebackhide__ = True
    _refuse_running_loop()
    own = {
        "config": example_config() if config is None else config,
        "tokenizer": CharTokenizer() if tokenizer is None else tokenizer,
        "data_packer": data_packer,
    }
    given = [one if isinstance(one, Example) else Example(*one) for one in examples]
    subject = f"reward {name_of(target)}"

    def broken() -> Iterator[Broken]:
        rewards: list[BoundReward] = []
        yield from _unfit(target, dict(args or {}), subject, rewards)
        for reward in rewards:
            with closing(RewardCaller()) as ask:
                caller = Caller(reward, loaded_message(reward, subject, group=group), own, ask)
                yield from _of_calls(caller, given, repeatable, refuses)

    demand(subject, RULES, broken())


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("check_reward runs an event loop of its own: call it from a plain function, not an async one")


def _unfit(target: Any, args: Mapping[str, Any], subject: str, into: list[BoundReward]) -> Iterator[Broken]:
    try:
        check_reward_args(target, args, owner=subject, where="args")
        reward = BoundReward(target, args)
    except Exception as error:  # noqa: BLE001 - the boundary: a class's constructor ran
        yield Broken("options", told(error), "Give it the args that a config would, or correct its signature.")
        return
    into.append(reward)


def _of_calls(
    caller: Caller, examples: Sequence[Example], repeatable: bool, refuses: tuple[type[Exception], ...]
) -> Iterator[Broken]:
    broken = [one for example in examples for one in broken_example(caller, example, repeatable)]
    yield from broken
    if not any(one.rule == "transport" for one in broken):
        yield from broken_odd_texts(caller, examples[0] if examples else None, refuses)
