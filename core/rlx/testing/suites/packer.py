"""The contract suite of packers: `check_packer`.

Rule: a packer is called as in a run, by the code of a run. Methods that it inherits from rlx's classes are not tested.
"""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.episodes import Episode
from rlx.errors import RlxError
from rlx.fingerprint import digest
from rlx.packers.base import RolloutOutput
from rlx.packers.batches import batch_rows, overrides
from rlx.packers.loss_mask import POLICY_COLUMNS, apply_policy_input
from rlx.packers.prompt import prompt_token_ids
from rlx.packers.protocol import Packer
from rlx.packers.sft_rows import sft_trajectories
from rlx.packers.tokenizer import Tokenizer
from rlx.testing.stand_ins.config import example_config
from rlx.testing.stand_ins.episodes import make_episode
from rlx.testing.stand_ins.tokenizer import CharTokenizer
from rlx.testing.suites.contract import Broken, construct, demand, guarded, name_of, root_cause, shortened

RULES: Mapping[str, str] = MappingProxyType(
    {
        "options": "A packer is a class; it can be made with its args and set up with `setup(config, tokenizer)`.",
        "rollout-input": "`get_rollout_input` returns text, token ids, or a mapping with `prompt_token_ids`, not "
        "empty; a `rollout_collate_fn` returns as many inputs as it gets.",
        "repeat": "The same item gives the same tokens each time, and is not changed.",
        "policy-input": "`get_policy_input`, `policy_compute_max_len` and `policy_collate_fn` make `input_ids` and "
        "`logprob_masks`, padded on the right: the tokens that were sampled, and a mask that covers no others.",
        "ignored-prefix": "The first `n_ignore_prefix_tokens` of a completion are not trained on.",
        "sft": "`sft_process_sample` returns a Trajectory, or `input_ids` and `labels` (not shifted, -100 for tokens "
        "that are not learned), with something to learn; so does an `sft_collate_fn`.",
    }
)
TEXT = "A completion."
LENGTHS = (5, 3)
IGNORED = 2


def check_packer(
    cls: Callable[..., Packer],
    *,
    args: Mapping[str, object] | None = None,
    items: Sequence[object],
    tokenizer: Tokenizer | None = None,
    config: Config | None = None,
) -> None:
    """Check a packer. Raises ContractError with every rule of RULES that it breaks.

    items: some of the dataset items that it is for; at least one.
    tokenizer, config: passed to its `setup`; default: a character tokenizer, and a config of defaults.

    Batches of tensors need torch: without it they are skipped, with a warning.
    """
    __tracebackhide__ = True
    assert items, "check_packer needs at least one item"
    run_tokenizer = tokenizer if tokenizer is not None else CharTokenizer()
    run_config = config or example_config()
    subject = f"packer {name_of(cls)}"

    def broken() -> Iterator[Broken]:
        packer = construct(cls, args or {}, subject, lambda made: made.setup(run_config, run_tokenizer))
        if isinstance(packer, Broken):
            yield packer
            return
        suite = _Suite(packer, run_tokenizer)
        yield from guarded("rollout-input", "Take such items, and return text or ids.", suite.rollout_input(items))
        if overrides(packer, "sft_process_sample", "sft_compute_max_len", "sft_collate_fn"):
            yield from guarded("sft", "Return these for such items.", _without_torch(suite.sft(items)))

    demand(subject, RULES, broken())


class _Suite:
    """The checks of one packer; each method yields findings."""

    def __init__(self, packer: Packer, tokenizer: Tokenizer) -> None:
        self._packer = packer
        self._tokenizer = tokenizer

    def rollout_input(self, items: Sequence[object]) -> Iterator[Broken]:
        for item in items:
            before = copy.deepcopy(item)
            where = f"item {shortened(before)}"
            ids, again = (prompt_token_ids(self._packer, item, self._tokenizer, where=where) for _ in range(2))
            if ids != again:
                yield Broken("repeat", f"{where} gave {ids} and then {again}", "Keep no state between items.")
            yield from guarded("policy-input", "", _without_torch(self.policy_input(item, ids, where)))
            if digest([before]) != digest([item]):
                yield Broken("repeat", f"{where} became {shortened(item)}", "Work on a copy of the item.")

    def policy_input(self, item: object, prompt: list[int], where: str) -> Iterator[Broken]:
        apply_policy_input(self._packer, item, self._group(prompt), self._tokenizer, where=where)
        if not self._ignores_prefix():
            return
        sampled = self._group(prompt)[0].trajectories[0].segments[-1]
        sample = self._packer.get_policy_input(item, RolloutOutput.of(TEXT, sampled), IGNORED)
        batch = self._packer.policy_collate_fn([sample], self._packer.policy_compute_max_len([sample]))
        ((_, mask),) = batch_rows(batch, POLICY_COLUMNS, 1, "policy_collate_fn")
        covered = sum(map(bool, mask))
        if covered > len(sampled.tokens) - IGNORED:
            seen = f"{where}: with {IGNORED} of {len(sampled.tokens)} tokens to ignore, the mask covers {covered}"
            yield Broken("ignored-prefix", seen, "Leave out the first tokens of the completion.")

    def sft(self, items: Sequence[object]) -> Iterator[Broken]:
        for item in items:
            where = f"item {shortened(item)}"
            trajectories = sft_trajectories(self._packer, item, TEXT, self._tokenizer, where=where)
            segments = [segment for trajectory in trajectories for segment in trajectory.segments]
            if not any(segment.learns and segment.tokens for segment in segments):
                seen = f"{where} with the answer {TEXT!r} gave nothing to learn: {shortened(trajectories, 200)}"
                yield Broken("sft", seen, "Give the answer's tokens labels other than -100.")

    def _group(self, prompt: list[int]) -> list[Episode]:
        """Return episodes whose tokens differ from those of their tokenised texts, as a sampler may emit them."""
        first = len(self._tokenizer) // 2
        return [
            make_episode(prompt, range(first, first + length), sample=sample, text=TEXT)
            for sample, length in enumerate(LENGTHS)
        ]

    def _ignores_prefix(self) -> bool:
        """Return whether the packer takes `n_ignore_prefix_tokens` (older ones don't) and keeps sampled tokens."""
        packer = self._packer
        if not overrides(packer, "get_policy_input") or getattr(packer, "retokenizes", False):
            return False
        try:
            inspect.signature(packer.get_policy_input).bind("item", "output", IGNORED)
        except TypeError:
            return False
        return True


def _without_torch(broken: Iterator[Broken]) -> Iterator[Broken]:
    """Yield from `broken`, but warn and stop if it needs torch and torch isn't installed."""
    try:
        yield from broken
    except (RlxError, ImportError) as error:
        cause = root_cause(error)
        if not (isinstance(cause, ModuleNotFoundError) and cause.name == "torch"):
            raise
        warnings.warn("torch is not installed: the batches of this packer were not checked", stacklevel=2)
