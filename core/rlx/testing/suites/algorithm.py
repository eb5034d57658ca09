"""The contract suite of algorithms: `check_algorithm`. It needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rlx.episodes import Episode, Reward, single_turn
from rlx.testing.suites.contract import Broken, demand, guarded, made, name_of
from rlx.testing.suites.loss import broken_loss

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "An algorithm is a class that is made with its args.",
        "rollouts": "Its class says `rollouts = True` (it learns from samples) or `rollouts = False` (from rows).",
        "needs-reference": "`needs_reference` is True or False.",
        "advantages": "`advantages(groups)` gives one finite number for each episode of each group; for groups whose "
        "rewards differ, not all of them are 0.",
        "unscored": "An episode without a reward (None) has the advantage 0.0, and counts in no baseline.",
        "loss": "`loss(batch, totals)` gives a finite scalar, and metrics.",
        "gradient": "The loss has a finite gradient at every token, and not 0 everywhere.",
        "shares": "Shares add up: micro-batches give together the loss and the gradient of the whole step.",
        "empty": "A micro-batch without tokens gives a loss of 0.",
        "metrics": "Metrics are sums over tokens: finite scalars without gradient, which add up over micro-batches.",
        "unchanged": "The batch is left as it is.",
    }
)
_GROUPS: Sequence[Sequence[float | None]] = (
    (1.0, 0.0, 0.0, 1.0),
    (0.5, None, 0.25, -2.0),
    (1.0, 1.0),
    (None, None),
    (3.0,),
)


def check_algorithm(cls: Callable[..., Any], *, args: Mapping[str, Any] | None = None) -> None:
    """Raises ContractError, with every rule of RULES that the algorithm breaks."""
    __tracebackhide__ = True
    subject = f"algorithm {name_of(cls)}"
    demand(subject, RULES, _broken(cls, dict(args or {}), subject))


def _broken(cls: Any, args: Mapping[str, Any], subject: str) -> Iterator[Broken]:
    algorithms: list[Any] = []
    making = made(cls, args, subject, algorithms)
    yield from guarded("options", "Give it the args that a config would, or correct its constructor.", making)
    for algorithm in algorithms:
        yield from _of_class(algorithm)
        yield from guarded("advantages", "Return a list for each group.", _of_advantages(algorithm))
        yield from guarded("loss", "Compute it from the batch and the totals alone.", broken_loss(algorithm))


def _of_class(algorithm: Any) -> Iterator[Broken]:
    rollouts = getattr(type(algorithm), "rollouts", None)
    if not isinstance(rollouts, bool):
        yield Broken("rollouts", f"rollouts is {rollouts!r}", "Write `rollouts: ClassVar[bool] = True` in the class.")
    needs = getattr(algorithm, "needs_reference", None)
    if not isinstance(needs, bool):
        yield Broken("needs-reference", f"needs_reference is {needs!r:.80}", "Make it a property that returns a bool.")


def _of_advantages(algorithm: Any) -> Iterator[Broken]:
    if not getattr(algorithm, "rollouts", True):
        yield from _misshapen(algorithm, [(None,), (None,)])
        return
    wrong = list(_misshapen(algorithm, _GROUPS))
    yield from wrong
    if wrong:
        return
    advantages = _advantages(algorithm, _GROUPS)
    if not any(advantages[0]):
        seen = f"rewards of {list(_GROUPS[0])} got {advantages[0]}"
        yield Broken("advantages", seen, "Let advantages depend on the rewards: nothing would be learnt.")
    yield from _of_unscored(algorithm, advantages)


def _misshapen(algorithm: Any, rewards: Sequence[Sequence[float | None]]) -> Iterator[Broken]:
    advantages = _advantages(algorithm, rewards)
    sizes, wanted = [len(group) for group in advantages], [len(group) for group in rewards]
    if sizes != wanted:
        yield Broken("advantages", f"groups of {wanted} episodes got {sizes} numbers", "Return one for each episode.")
    for values, group in zip(advantages, rewards, strict=False):
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            seen = f"rewards of {list(group)} got {values!r:.200}"
            yield Broken(
                "advantages", seen, "Return finite Python numbers, for groups of one and of equal rewards too."
            )


def _of_unscored(algorithm: Any, advantages: list[list[float]]) -> Iterator[Broken]:
    scored = [[reward for reward in group if reward is not None] for group in _GROUPS]
    without = iter(_advantages(algorithm, [group for group in scored if group]))
    for rewards, values in zip(_GROUPS, advantages, strict=True):
        expected = iter(next(without) if any(reward is not None for reward in rewards) else [])
        wanted = [0.0 if reward is None else next(expected) for reward in rewards]
        if not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7) for a, b in zip(values, wanted, strict=True)):
            seen = f"rewards of {list(rewards)} got {values}, not {wanted}"
            yield Broken("unscored", seen, "Leave episodes whose total_reward is None out, and give them 0.0.")


def _advantages(algorithm: Any, rewards: Sequence[Sequence[float | None]]) -> list[list[float]]:
    groups = [[_episode(number, *one) for one in enumerate(group)] for number, group in enumerate(rewards)]
    return [list(values) for values in algorithm.advantages(groups)]


def _episode(group: int, sample: int, reward: float | None) -> Episode:
    tokens = list(range(10, 13 + sample))
    trajectory = single_turn([1, 2, 3], tokens, logprobs=[-0.5] * len(tokens), finish_reason="stop")
    return Episode(group, sample, group, [trajectory], "completion", "prompt", [Reward("reward", reward)])
