"""The contract suite of packers: `check_packer`.

The rule of this part: a packer is asked what a run asks it, by the code of a run. What it leaves to rlx's own classes
is not asked for.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rlx.episodes import Episode, VersionSpan, single_turn
from rlx.fingerprint import digest
from rlx.packers.base import RolloutOutput
from rlx.packers.batches import batch_rows, overrides
from rlx.packers.loss_mask import COLUMNS, apply_policy_input
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.sft_rows import sft_trajectories
from rlx.testing.suites.contract import Broken, demand, example_config, guarded, made, name_of, origin
from rlx.testing.tokenizer import CharTokenizer

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A packer is a class; it is made with its args and set up with `setup(config, tokenizer)`.",
        "rollout-input": "`get_rollout_input` gives text, token ids, or a mapping with `prompt_token_ids`, not empty; "
        "a `rollout_collate_fn` gives as many inputs as it gets.",
        "repeat": "The same item gives the same tokens every time, and is left as it is.",
        "policy-input": "`get_policy_input`, `policy_compute_max_len` and `policy_collate_fn` make `input_ids` and "
        "`logprob_masks`, padded at the right: the tokens that were sampled, and a mask that covers no others.",
        "ignored-prefix": "The first `n_ignore_prefix_tokens` of a completion are not trained on.",
        "sft": "`sft_process_sample` gives a Trajectory, or `input_ids` and `labels` (not shifted, -100 where nothing "
        "is learnt), with something to learn; so does an `sft_collate_fn`.",
    }
)
TEXT = "A completion."
LENGTHS = (5, 3)
IGNORED = 2


def check_packer(
    cls: Callable[..., Any],
    *,
    args: Mapping[str, Any] | None = None,
    items: Sequence[Any],
    tokenizer: Any = None,
    config: Any = None,
) -> None:
    """Raises ContractError, with every rule of RULES that the packer breaks.

    items: some of the dataset items that it is for; at least one.
    tokenizer, config: what it is set up with; default: a character tokenizer, and a config of defaults.

    Batches that are made of tensors need torch: without it, a warning says that they were left out.
    """
    __tracebackhide__ = True
    assert items, "check_packer needs at least one item"
    tokenizer = CharTokenizer() if tokenizer is None else tokenizer
    config = example_config() if config is None else config
    subject = f"packer {name_of(cls)}"
    demand(subject, RULES, _broken(cls, dict(args or {}), subject, list(items), tokenizer, config))


def _broken(
    cls: Any, args: Mapping[str, Any], subject: str, items: list[Any], tokenizer: Any, config: Any
) -> Iterator[Broken]:
    packers: list[Any] = []
    making = made(cls, args, subject, packers, lambda packer: packer.setup(config, tokenizer))
    yield from guarded("options", "Give it the args that a config would, or correct its constructor.", making)
    for packer in packers:
        yield from guarded(
            "rollout-input", "Take such items, and return text or ids.", _of_rl(packer, items, tokenizer)
        )
        if overrides(packer, "sft_process_sample", "sft_compute_max_len", "sft_collate_fn"):
            yield from guarded("sft", "Return these for such items.", _torch_or_not(_of_sft(packer, items, tokenizer)))


def _of_rl(packer: Any, items: list[Any], tokenizer: Any) -> Iterator[Broken]:
    for item in items:
        before = copy.deepcopy(item)
        where = f"item {_short(before)}"
        ids, again = (prompt_token_ids(packer, item, tokenizer, where=where) for _ in range(2))
        if ids != again:
            yield Broken("repeat", f"{where} gave {ids} and then {again}", "Keep no state between items.")
        asked = _torch_or_not(_of_policy(packer, item, ids, tokenizer, where))
        yield from guarded("policy-input", "", asked)
        if digest([before]) != digest([item]):
            yield Broken("repeat", f"{where} became {_short(item)}", "Work on a copy of the item.")


def _of_policy(packer: Any, item: Any, prompt: list[int], tokenizer: Any, where: str) -> Iterator[Broken]:
    apply_policy_input(packer, item, group_of(prompt, tokenizer), tokenizer, where=where)
    if not _ignores_prefix(packer):
        return
    sampled = group_of(prompt, tokenizer)[0].trajectories[0].segments[-1]
    sample = packer.get_policy_input(item, RolloutOutput.of(TEXT, sampled), IGNORED)
    batch = packer.policy_collate_fn([sample], packer.policy_compute_max_len([sample]))
    ((_, mask),) = batch_rows(batch, COLUMNS, 1, "policy_collate_fn")
    if sum(map(bool, mask)) > len(sampled.tokens) - IGNORED:
        seen = f"with {IGNORED} of {len(sampled.tokens)} tokens to ignore, the mask covers {sum(map(bool, mask))}"
        yield Broken("ignored-prefix", f"{where}: {seen}", "Leave the first of the completion's tokens out.")


def group_of(prompt: list[int], tokenizer: Any) -> list[Episode]:
    """Completions whose tokens are not those that a tokenizer makes of their texts: what a sampler may well emit."""
    group = []
    for sample, length in enumerate(LENGTHS):
        tokens = list(range(len(tokenizer) // 2, len(tokenizer) // 2 + length))
        trajectory = single_turn(
            prompt, tokens, logprobs=[-0.5] * length, versions=[VersionSpan(0, length)], finish_reason="stop"
        )
        group.append(Episode(0, sample, 0, [trajectory], text=TEXT))
    return group


def _ignores_prefix(packer: Any) -> bool:
    """Whether it has a say in that: takes `n_ignore_prefix_tokens` (older packers do not), and keeps sampled tokens."""
    if not overrides(packer, "get_policy_input") or getattr(packer, "retokenizes", False):
        return False
    try:
        inspect.signature(packer.get_policy_input).bind("item", "output", IGNORED)
    except TypeError:
        return False
    return True


def _of_sft(packer: Any, items: list[Any], tokenizer: Any) -> Iterator[Broken]:
    for item in items:
        where = f"item {_short(item)}"
        trajectories = sft_trajectories(packer, item, TEXT, tokenizer, where=where)
        if not any(segment.learns and segment.tokens for trajectory in trajectories for segment in trajectory.segments):
            seen = f"{where} with the answer {TEXT!r} gave nothing to learn: {_short(trajectories, 200)}"
            yield Broken("sft", seen, "Give the answer's tokens labels other than -100.")


def _torch_or_not(broken: Iterator[Broken]) -> Iterator[Broken]:
    """`broken`, unless it needs torch and there is none."""
    try:
        yield from broken
    except Exception as error:
        cause = origin(error)
        if not (isinstance(cause, ModuleNotFoundError) and cause.name == "torch"):
            raise
        warnings.warn("torch is not installed: what this packer makes of batches was not looked at", stacklevel=2)


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
