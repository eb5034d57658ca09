"""The contract suite of algorithms: `check_algorithm`. It needs torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from rlx.algorithms.base import Algorithm
from rlx.episodes import Reward
from rlx.testing.stand_ins.episodes import make_episode
from rlx.testing.suites.contract import Broken, construct, demand, guarded, name_of
from rlx.testing.suites.loss import broken_loss

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "An algorithm is a class; it can be made with its args.",
        "rollouts": "The class sets `rollouts = True` (it learns from samples) or `rollouts = False` (from rows).",
        "needs-reference": "`needs_reference` is True or False.",
        "advantages": "`advantages(groups)` returns one finite number for each episode of each group. In a group whose "
        "rewards differ, not all of them are 0.",
        "unscored": "An episode without a reward (None) has the advantage 0.0 and does not count in any baseline.",
        "loss": "`loss(batch, totals)` returns a finite scalar, and metrics.",
        "gradient": "The loss has a finite gradient at every token, and it is not 0 everywhere.",
        "shares": "Micro-batches are additive: together they give the loss and the gradient of the whole step.",
        "empty": "A micro-batch without tokens has a loss of 0.",
        "metrics": "Metrics are sums over tokens: finite scalars without gradient that add up over micro-batches.",
        "unchanged": "`loss` does not modify the batch.",
    }
)
_REWARDS: Sequence[Sequence[float | None]] = (
    (1.0, 0.0, 0.0, 1.0),
    (0.5, None, 0.25, -2.0),
    (1.0, 1.0),
    (None, None),
    (3.0,),
)
"""Rewards of the episodes of each group."""


def check_algorithm(cls: Callable[..., Algorithm], *, args: Mapping[str, object] | None = None) -> None:
    """Check an algorithm. Raises ContractError with every rule of RULES that it breaks."""
    __tracebackhide__ = True
    subject = f"algorithm {name_of(cls)}"

    def broken() -> Iterator[Broken]:
        algorithm = construct(cls, args or {}, subject)
        if isinstance(algorithm, Broken):
            yield algorithm
            return
        rollouts: object = getattr(type(algorithm), "rollouts", None)
        if not isinstance(rollouts, bool):
            todo = "Write `rollouts: ClassVar[bool] = True` in the class."
            yield Broken("rollouts", f"rollouts is {rollouts!r}", todo)
        needs: object = getattr(algorithm, "needs_reference", None)
        if not isinstance(needs, bool):
            todo = "Make it a property that returns a bool."
            yield Broken("needs-reference", f"needs_reference is {needs!r:.80}", todo)
        yield from guarded("advantages", "Return a list for each group.", _broken_advantages(algorithm))
        yield from guarded("loss", "Compute it from the batch and the totals alone.", broken_loss(algorithm))

    demand(subject, RULES, broken())


def _broken_advantages(algorithm: Algorithm) -> Iterator[Broken]:
    if not getattr(algorithm, "rollouts", True):
        yield from _malformed(algorithm, [(None,), (None,)])
        return
    malformed = list(_malformed(algorithm, _REWARDS))
    yield from malformed
    if malformed:
        return
    advantages = _advantages(algorithm, _REWARDS)
    if not any(advantages[0]):
        seen = f"rewards of {list(_REWARDS[0])} got {advantages[0]}"
        yield Broken("advantages", seen, "Make advantages depend on the rewards: nothing would be learned.")
    # Episodes without a reward must not matter: compare with the same groups without them.
    scored = [[reward for reward in group if reward is not None] for group in _REWARDS]
    without = iter(_advantages(algorithm, [group for group in scored if group]))
    for rewards, values in zip(_REWARDS, advantages, strict=True):
        expected = iter(next(without) if any(reward is not None for reward in rewards) else [])
        wanted = [0.0 if reward is None else next(expected) for reward in rewards]
        if not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7) for a, b in zip(values, wanted, strict=True)):
            seen = f"rewards of {list(rewards)} got {values}, not {wanted}"
            yield Broken("unscored", seen, "Leave out episodes whose total_reward is None, and give them 0.0.")


def _malformed(algorithm: Algorithm, rewards: Sequence[Sequence[float | None]]) -> Iterator[Broken]:
    """Yield findings about the number and the type of advantages."""
    advantages = _advantages(algorithm, rewards)
    sizes, wanted = [len(group) for group in advantages], [len(group) for group in rewards]
    if sizes != wanted:
        yield Broken("advantages", f"groups of {wanted} episodes got {sizes} numbers", "Return one for each episode.")
    for values, group in zip(advantages, rewards, strict=False):
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
            seen = f"rewards of {list(group)} got {values!r:.200}"
            todo = "Return finite Python numbers, also for groups of one and for equal rewards."
            yield Broken("advantages", seen, todo)


def _advantages(algorithm: Algorithm, rewards: Sequence[Sequence[float | None]]) -> list[list[float]]:
    groups = [
        [
            make_episode([1, 2, 3], range(10, 13 + sample), group=group, sample=sample, rewards=[Reward("r", value)])
            for sample, value in enumerate(values)
        ]
        for group, values in enumerate(rewards)
    ]
    return [list(values) for values in algorithm.advantages(groups)]
