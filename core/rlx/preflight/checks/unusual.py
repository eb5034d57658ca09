"""Notes on settings that can be meant, and seldom are.

Settings that can't mean anything are refused, by a bound in `rlx.config.sections` or a rule in `rlx.config.rules`.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlx.config.schema import Config

_WARM_TEMPERATURE = 2.0
_LARGE_LR, _SMALL_LR = 0.03, 1e-9
"""A weight of a small model is about 0.02; float32 resolves it to 2e-9."""
_LARGE_DECAY = 1.0
_LARGE_LOGPROB_DIFF = 1.0
_LARGE_GROUP = 1024
_SMALL_WEIGHT = 1e-3
_SHORT_START_SECONDS = 30.0
_SHORT_STALL_SECONDS = 10.0
_SHORT_HEARTBEAT_SECONDS = 10.0
_SMALL_CHUNK = 64


def unusual(config: Config, *, rollouts: bool) -> Iterator[str]:
    """Yield a note for each setting that is probably a slip.

    rollouts: True if the algorithm learns from samples (RL).
    """
    yield from _length(config)
    yield from _optimizer(config)
    yield from _evaluation(config, rollouts=rollouts)
    yield from _times(config, rollouts=rollouts)
    if rollouts:
        yield from _sampling(config)
    if config.policy.logprob_chunk < _SMALL_CHUNK:
        yield (
            f"[policy] logprob_chunk = {config.policy.logprob_chunk}: the vocabulary is gone through that many entries "
            "at a time, which is slow."
        )


def _length(config: Config) -> Iterator[str]:
    steps = config.run.steps
    if config.run.epochs is not None:
        return
    if steps == 0:
        if config.eval is None:
            yield "[run] steps = 0 without [eval]: nothing is trained or measured, only read and exported."
        return
    every = {
        "[checkpoint] every": (config.checkpoint.every, "the only checkpoint is the one at the end"),
        "[eval] every": (
            config.eval.every if config.eval else None,
            "evaluations are only those before the first step and at the end",
        ),
    }
    for key, (value, effect) in every.items():
        if value is not None and value > steps:
            yield f"{key} = {value:,} is more than [run] steps = {steps:,}: {effect}."
    if config.asynchrony.max_staleness > steps:
        yield (
            f"[async] max_staleness = {config.asynchrony.max_staleness:,} is more than [run] steps = {steps:,}: no "
            "group can be that old, so nothing bounds the staleness."
        )


def _optimizer(config: Config) -> Iterator[str]:
    optimizer = config.policy.optimizer
    if optimizer.lr > _LARGE_LR:
        yield (
            f"[policy.optimizer] lr = {optimizer.lr:g} is large: AdamW moves each weight by about that much in every "
            "step. Common are 1e-6 to 1e-3."
        )
    if optimizer.lr < _SMALL_LR:
        yield (
            f"[policy.optimizer] lr = {optimizer.lr:g} is small: AdamW moves each weight by about that much in every "
            "step, which float32 hardly resolves. Common are 1e-6 to 1e-3."
        )
    if optimizer.weight_decay > _LARGE_DECAY:
        yield f"[policy.optimizer] weight_decay = {optimizer.weight_decay:g} is large. Common are 0 to 0.1."


def _evaluation(config: Config, *, rollouts: bool) -> Iterator[str]:
    evaluation = config.eval
    if evaluation is None or not rollouts:
        return
    if evaluation.temperature == 0 and evaluation.samples > 1:
        yield (
            f"[eval] samples = {evaluation.samples:,} at temperature = 0: greedy completions of a prompt are all the "
            "same one."
        )
    if evaluation.temperature > _WARM_TEMPERATURE:
        yield f"[eval] temperature = {evaluation.temperature:g} is high: completions become random. Common are 0 to 1."


def _times(config: Config, *, rollouts: bool) -> Iterator[str]:
    run = config.run
    if rollouts and run.start_seconds < _SHORT_START_SECONDS:
        yield f"[run] start_seconds = {run.start_seconds:g} is short: an engine takes 10 to 60 s to start, or more."
    if run.stall_seconds < _SHORT_STALL_SECONDS:
        yield (
            f"[run] stall_seconds = {run.stall_seconds:g} is short: if nothing moves for 12 times as long, the run "
            "ends."
        )
    if run.heartbeat_seconds < _SHORT_HEARTBEAT_SECONDS:
        yield (
            f"[run] heartbeat_seconds = {run.heartbeat_seconds:g} is short: on a busy machine a process can be silent "
            "for longer, and is then taken for dead."
        )


def _sampling(config: Config) -> Iterator[str]:
    if config.rollout.temperature > _WARM_TEMPERATURE:
        yield (
            f"[rollout] temperature = {config.rollout.temperature:g} is high: completions become random. Common are "
            "0.6 to 1.2."
        )
    if config.algorithm.group_size > _LARGE_GROUP:
        yield f"[algorithm] group_size = {config.algorithm.group_size:,} is large. Common are 4 to 64."
    largest = max((abs(reward.weight) for reward in config.rewards), default=1.0)
    if 0 < largest < _SMALL_WEIGHT:
        yield (
            f"[[rewards]]: the largest weight is {largest:g}. Totals this small vanish beside what an algorithm adds "
            "to their deviation (GRPO: 1e-4)."
        )
    allowed = config.sync.max_logprob_diff
    if allowed is not None and allowed > _LARGE_LOGPROB_DIFF:
        yield (f"[sync] max_logprob_diff = {allowed:g} is large: engines with wrong weights may pass the verification.")
