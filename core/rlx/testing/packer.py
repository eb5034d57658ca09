"""The contract suite of packers: `check_packer`.

The rule of this part: what may be left out is not asked for. Only `get_rollout_input` is called of every packer; the
other methods are checked where the packer (or a base of it that is not rlx's) has them, those that make batches only
where torch is installed.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rlx.api.fingerprint import digest
from rlx.api.packer import DataPacker, RolloutOutput
from rlx.api.prompt import prompt_token_ids
from rlx.api.sft import to_trajectory, with_target
from rlx.testing.columns import find, masks, position, rows
from rlx.testing.contract import Broken, demand, example_config, guarded, made, name_of
from rlx.testing.tokenizer import CharTokenizer

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A packer is a class; it is made with its args and set up with `setup(config, tokenizer)`.",
        "rollout-input": "`get_rollout_input` gives text, token ids, or a mapping with `prompt_token_ids`; not empty.",
        "repeat": "The same item gives the same tokens every time, and is left as it is.",
        "rollout-batch": "`rollout_collate_fn` keeps the number of items.",
        "policy-input": "`get_policy_input` takes (item, rollout_output), and may take n_ignore_prefix_tokens.",
        "sampled-tokens": "What is trained on are the tokens that the sampler emitted: text is not tokenised again.",
        "mask": "A mask is as long as the tokens, and covers no token but the sampled ones.",
        "ignored-prefix": "The first `n_ignore_prefix_tokens` of a completion are not trained on.",
        "policy-batch": "`policy_compute_max_len` is the longest sample; `policy_collate_fn` makes rows that long.",
        "sft-sample": "`sft_process_sample` gives a Trajectory, or `input_ids` and `labels`, with something to learn.",
        "sft-batch": "`sft_compute_max_len` is the longest row; `sft_collate_fn` makes rows that long.",
    }
)

TEXT = "a completion"
SAMPLED = 5
"""How many tokens the sampler is said to have emitted; they are not those of TEXT."""


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
        yield from guarded("rollout-input", "Return text or token ids.", _of_rollout(packer, items, tokenizer))
        if _has(packer, "get_policy_input"):
            takes = "Take (item, rollout_output), as RolloutOutput is a str."
            yield from guarded("policy-input", takes, _of_policy(packer, items, tokenizer))
        if any(_has(packer, name) for name in ("sft_process_sample", "sft_compute_max_len", "sft_collate_fn")):
            yield from guarded("sft-sample", "Return a Trajectory.", _of_sft(packer, items, subject))


def _has(packer: Any, method: str) -> bool:
    """Whether the packer has a method that is not the placeholder of `rlx.DataPacker`."""
    own = getattr(type(packer), method, None)
    return own is not None and own is not getattr(DataPacker, method)


def _of_rollout(packer: Any, items: list[Any], tokenizer: Any) -> Iterator[Broken]:
    for item in items:
        before = copy.deepcopy(item)
        ids, again = (prompt_token_ids(packer, item, tokenizer, where=f"item {_short(before)}") for _ in range(2))
        if ids != again:
            yield Broken("repeat", f"{_short(before)} gave {ids} and then {again}", "Keep no state between items.")
        if digest([before]) != digest([item]):
            yield Broken("repeat", f"{_short(before)} became {_short(item)}", "Work on a copy of the item.")
    if hasattr(packer, "rollout_collate_fn"):
        batch = packer.rollout_collate_fn([packer.get_rollout_input(item) for item in items])
        if hasattr(batch, "__len__") and not isinstance(batch, Mapping) and len(batch) != len(items):
            yield Broken("rollout-batch", f"{len(items)} items gave {len(batch)}", "Return one request for each item.")


def _of_policy(packer: Any, items: list[Any], tokenizer: Any) -> Iterator[Broken]:
    emitted = list(range(len(tokenizer) // 2, len(tokenizer) // 2 + SAMPLED))
    output = RolloutOutput(TEXT, emitted, [-0.5] * SAMPLED, [0] * SAMPLED)
    samples = [packer.get_policy_input(item, output) for item in items]
    for item, sample in zip(items, samples, strict=True):
        if find(sample, emitted) is None and getattr(packer, "retokenizes", False):
            continue
        yield from _of_sample(sample, emitted, f"item {_short(item)}", ignored=0)
        if find(sample, emitted) and _takes_third(packer.get_policy_input):
            yield from _of_sample(packer.get_policy_input(item, output, 2), emitted, f"item {_short(item)}", ignored=2)
    tokens = [found.tokens for sample in samples if (found := find(sample, emitted))]
    if len(tokens) == len(samples) and _batches(packer, "policy_compute_max_len", "policy_collate_fn"):
        making = _of_batch(packer.policy_compute_max_len, packer.policy_collate_fn, samples, tokens, "policy-batch")
        yield from guarded("policy-batch", "Pad the samples to the length that was computed.", making)


def _takes_third(get_policy_input: Callable[..., Any]) -> bool:
    """Whether it takes `n_ignore_prefix_tokens`."""
    try:
        inspect.signature(get_policy_input).bind("item", "output", 0)
    except TypeError:
        return False
    return True


def _of_sample(sample: Any, emitted: list[int], where: str, *, ignored: int) -> Iterator[Broken]:
    found = find(sample, emitted)
    if found is None:
        seen = f"for {where} the sampler emitted {emitted}, and the sample is {_short(sample, 200)}"
        yield Broken("sampled-tokens", seen, "Put rollout_output.token_ids behind the prompt's tokens.")
        return
    for name, mask in masks(sample).items():
        trained = [place for place, covered in enumerate(mask) if covered]
        # A mask may mark a token, or the place that predicts it; `logprob_masks` is of the second kind.
        first, last = found.start - 1, found.start + SAMPLED - (2 if name == "logprob_masks" else 1)
        if len(mask) != len(found.tokens):
            seen = f"for {where} {name} has {len(mask)} entries for {len(found.tokens)} tokens"
            yield Broken("mask", seen, "Give it one entry for each token.")
        elif not ignored and not (trained and first <= trained[0] and trained[-1] <= last):
            sampled = f"{found.start} to {found.start + SAMPLED - 1}"
            seen = f"for {where} {name} covers {trained}; the sampled tokens are {sampled}"
            yield Broken("mask", seen, "Cover sampled tokens only: 1 where the next token is one to train on.")
        elif ignored and len(trained) > SAMPLED - ignored:
            seen = f"for {where}, with {ignored} of {SAMPLED} tokens to ignore, {name} covers {len(trained)}"
            yield Broken("ignored-prefix", seen, "Leave the first n_ignore_prefix_tokens of the completion out.")


def _of_sft(packer: Any, items: list[Any], owner: str) -> Iterator[Broken]:
    samples = [packer.sft_process_sample(with_target(item, TEXT)) for item in items]
    trajectories = [to_trajectory(sample, owner) for sample in samples]
    for item, trajectory in zip(items, trajectories, strict=True):
        if not any(segment.learns and segment.tokens for segment in trajectory.segments):
            seen = f"item {_short(item)} with the answer {TEXT!r} gave nothing to learn: {_short(trajectory, 200)}"
            yield Broken("sft-sample", seen, "Give labels other than -100 at the answer's tokens.")
    if _batches(packer, "sft_compute_max_len", "sft_collate_fn"):
        tokens = [trajectory.tokens for trajectory in trajectories]
        making = _of_batch(packer.sft_compute_max_len, packer.sft_collate_fn, samples, tokens, "sft-batch")
        yield from guarded("sft-batch", "Pad the rows to the length that was computed.", making)


def _batches(packer: Any, *methods: str) -> bool:
    """Whether batches can be made here: most are made of tensors."""
    return all(_has(packer, name) for name in methods) and importlib.util.find_spec("torch") is not None


def _of_batch(
    compute: Callable[..., Any], collate: Callable[..., Any], samples: list[Any], tokens: list[list[int]], rule: str
) -> Iterator[Broken]:
    longest = compute(samples)
    wanted = max(map(len, tokens))
    if longest != wanted:
        yield Broken(rule, f"the longest has {wanted} tokens, and {longest} was computed", "Count tokens.")
        return
    batch = collate(samples, longest)
    for lines in rows(batch).values():
        held = [position(line, row) is not None for line, row in zip(lines, tokens, strict=False)]
        if len(lines) == len(tokens) and all(held) and {len(line) for line in lines} == {longest}:
            return
    seen = (
        f"no column of the batch holds {len(tokens)} rows of {longest} with the samples' tokens: {_short(batch, 300)}"
    )
    yield Broken(rule, seen, "Return a mapping with the padded tokens, as `input_ids`.")


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."
