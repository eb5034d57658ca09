"""The contract suite of rewards: `check_reward`.

Rule: a completion is scored as in a run. It reaches the reward as MessagePack, together with everything else that rlx
offers, and the code of the reward process reads the result. Only the process itself is missing, so that a debugger
stops in the author's function.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.packers.protocol import Packer
from rlx.packers.tokenizer import Tokenizer
from rlx.rewards.bound import BoundReward, check_reward_args
from rlx.rewards.call import RewardCaller, loaded_message
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.contract import Broken, Raised, attempt, demand, name_of
from rlx.testing.suites.reward_calls import (
    Example,
    ExampleCaller,
    ExampleTuple,
    broken_example,
    broken_odd_texts,
    try_odd_texts,
)

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A reward is a function, or a class whose instances are callable. It takes the completion and the "
        "reference answer by position, and its args fit its signature.",
        "transport": "Its arguments can be sent to its process: text, numbers, lists, mappings, arrays.",
        "score": "It returns a finite number, or (number, dict of numbers). A group reward returns a list of numbers "
        "(None: not scored), or that and a list of dicts.",
        "expected": "It returns the score that the example expects.",
        "repeat": "The same completion gets the same score each time.",
        "unchanged": "It does not change the reference answer or the dataset's item.",
        "any-text": "A policy may write anything: every completion gets a number, never None or NaN.",
        "any-group": "A group reward accepts any number of completions, including one.",
    }
)


def check_reward(
    target: object,
    *,
    args: Mapping[str, object] | None = None,
    examples: Iterable[Example | ExampleTuple] = (),
    group: bool | None = None,
    config: Config | None = None,
    tokenizer: Tokenizer | None = None,
    data_packer: Packer | None = None,
    repeatable: bool = True,
    refuses: tuple[type[Exception], ...] = (),
) -> None:
    """Check a reward. Raises ContractError with every rule of RULES that it breaks.

    examples: `(completion, reference)`, `(completion, reference, expected score)`, or an `Example`. For a group reward
    the completion is a list of texts, and the expected score a list of scores.
    group: as in the config; default: as the reward is marked (`@rlx.group_reward`).
    config, tokenizer, data_packer: passed to the reward if it takes them; default: a config of defaults, a character
    tokenizer, no packer.
    repeatable: False for a reward that cannot repeat itself, such as a judge that samples.
    refuses: exceptions with which it refuses a completion on purpose. With an example's reference answer, any other
    exception breaks `any-text`; without examples, exceptions are attributed to the missing reference answer.

    Async rewards run in an event loop of the suite: call it from a plain function, not from an async one.
    """
    __tracebackhide__ = True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise RuntimeError("check_reward runs its own event loop: call it from a plain function, not an async one")
    examined = examine_reward(
        target,
        args=args,
        examples=examples,
        group=group,
        own={
            "config": config or example_config(),
            "tokenizer": tokenizer if tokenizer is not None else CharTokenizer(),
            "data_packer": data_packer,
        },
        repeatable=repeatable,
        refuses=refuses,
    )
    demand(f"reward {name_of(target)}", RULES, examined.broken)


@dataclass(frozen=True)
class Examined:
    """The result of trying a reward."""

    broken: list[Broken]
    refused_all: str = ""
    """The exception that it raised at the last of the odd texts, if it raised one at each of them."""


def examine_reward(
    target: object,
    *,
    args: Mapping[str, object] | None = None,
    examples: Iterable[Example | ExampleTuple] = (),
    group: bool | None = None,
    own: Mapping[str, object] | None = None,
    repeatable: bool = True,
    refuses: tuple[type[Exception], ...] = (),
    reference: object = None,
) -> Examined:
    """Try a reward as `check_reward` does.

    own: `config`, `tokenizer` and `data_packer`.
    reference: the reference answer that goes with odd texts, if there are no examples. Exceptions are no findings then.
    """
    own = own or {"config": example_config(), "tokenizer": CharTokenizer(), "data_packer": None}
    given = [one if isinstance(one, Example) else Example(*one) for one in examples]
    subject = f"reward {name_of(target)}"

    def bind() -> BoundReward:
        check_reward_args(target, dict(args or {}), owner=subject, where="args")
        assert callable(target)
        return BoundReward(target, dict(args or {}))

    reward = attempt(bind)
    if isinstance(reward, Raised):
        todo = "Give it the args that a config would, or correct its signature."
        return Examined([Broken("options", str(reward), todo)])
    with closing(RewardCaller()) as call:
        caller = ExampleCaller(reward, loaded_message(reward, subject, group=group), own, call)
        found = [one for example in given for one in broken_example(caller, example, repeatable)]
        if any(one.rule == "transport" for one in found):
            return Examined(found)
        odd = try_odd_texts(caller, given[0] if given else Example("", reference))
        found += broken_odd_texts(odd, with_reference=bool(given), refuses=refuses)
        return Examined(found, str(odd[-1].raised) if all(one.raised for one in odd) else "")
