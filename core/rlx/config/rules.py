"""Contradictions between settings, which the schema of one key can't express.

Only real ones count: a setting that would be ignored, could never work, or would never end. Each rule yields messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType

from rlx.config.schema import Config
from rlx.config.sections.checkpoint import PREFERENCES
from rlx.config.sections.rollout import MIN_TEMPERATURE, RolloutConfig

ENGINE_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "model": "[model] path",
        "revision": "[model] revision",
        "tokenizer": "[model] tokenizer",
        "trust_remote_code": "[model] trust_remote_code",
        "dtype": "[rollout] dtype",
        "tensor_parallel_size": "[rollout] tensor_parallel",
        "seed": "[run] seed",
        "logprobs_mode": "",
        "worker_extension_cls": "",
        "weight_transfer_config": "",
    }
)
"""vLLM arguments that rlx sets -> the rlx key for it; empty if the user has no choice."""


def contradictions(config: Config) -> list[str]:
    """Return a message for every rule that the config breaks."""
    return [message for rule in _RULES for message in rule(config)]


def learning_contradictions(config: Config, *, rollouts: bool) -> list[str]:
    """Return a message for every rule of RL (`rollouts`) or SFT that the config breaks.

    Separate from `contradictions`, since only the algorithm itself knows which of the two it is.
    """
    rules = _RL_RULES if rollouts else _SFT_RULES
    return [message for rule in rules for message in rule(config)]


def engine_keys(config: Config) -> Iterator[str]:
    for name in config.rollout.vllm:
        if name in ENGINE_KEYS:
            instead = f"use {ENGINE_KEYS[name]}" if ENGINE_KEYS[name] else "it can't be chosen"
            yield f"[rollout.vllm] {name}: rlx sets this itself; {instead}"


def best_effort(config: Config) -> Iterator[str]:
    for name in config.plugins.best_effort:
        if name not in config.plugins.names:
            yield f"[plugins] best_effort: {name!r} is not in `enable`, so it is never called"


def repeats(config: Config) -> Iterator[str]:
    rewards = {
        "[[rewards]]": config.rewards,
        "[[filter_rewards]]": config.filter_rewards,
        "[[eval.rewards]]": (config.eval.rewards or []) if config.eval else [],
    }
    lists = {
        # One with a label of its own may be listed again, with other args.
        **{where: [reward.name for reward in found if reward.label is None] for where, found in rewards.items()},
        **{f"{where} label": [reward.label for reward in found if reward.label] for where, found in rewards.items()},
        "[plugins] enable": config.plugins.names,
        "[run] loggers": config.run.loggers,
    }
    for where, names in lists.items():
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{where}: {name!r} is listed more than once"


def length(config: Config) -> Iterator[str]:
    if config.run.epochs is not None and "steps" in config.run.model_fields_set:
        yield f"[run] epochs = {config.run.epochs:g} and steps = {config.run.steps}: set only one of them"


def optimizer(config: Config) -> Iterator[str]:
    optimizer, steps = config.policy.optimizer, config.run.steps
    if config.run.epochs is None and steps and optimizer.warmup_steps > steps:
        yield (
            f"[policy.optimizer] warmup_steps = {optimizer.warmup_steps} is more than [run] steps = {steps}: "
            "the learning rate would never be reached"
        )
    if optimizer.schedule == "constant" and optimizer.min_lr_ratio > 0:
        yield "[policy.optimizer] min_lr_ratio: a constant schedule never gets there; choose linear or cosine"
    for index, beta in enumerate(optimizer.betas):
        if not 0 <= beta < 1:
            yield f"[policy.optimizer] betas[{index}]: must be at least 0 and less than 1, got {beta}"


def updates(config: Config) -> Iterator[str]:
    """Refuse updates that destroy the weights, or that leave them as they are."""
    optimizer = config.policy.optimizer
    if optimizer.lr * optimizer.weight_decay >= 1:
        yield (
            f"[policy.optimizer] weight_decay = {optimizer.weight_decay:g} times lr = {optimizer.lr:g} is at least 1: "
            "every step would take all of each weight away"
        )
    if 0 < optimizer.max_grad_norm < optimizer.eps:
        yield (
            f"[policy.optimizer] max_grad_norm = {optimizer.max_grad_norm:g} is less than eps = {optimizer.eps:g}: "
            "gradients that small move nothing; 0 switches clipping off"
        )


def greedy(config: Config) -> Iterator[str]:
    if config.eval is not None and 0 < config.eval.temperature < MIN_TEMPERATURE:
        yield (
            f"[eval] temperature = {config.eval.temperature:g}: vLLM would sample at {MIN_TEMPERATURE:g}, its least. "
            "0 is greedy"
        )


def something_to_do(config: Config) -> Iterator[str]:
    nothing = config.run.epochs is None and config.run.steps == 0 and config.eval is None
    if nothing and not config.checkpoint.export:
        yield "[run] steps = 0 with [checkpoint] export = false and without [eval]: nothing would be done"


def environments(config: Config) -> Iterator[str]:
    """Refuse names and values that the operating system doesn't take."""
    for table, variables in (("policy", config.policy.env), ("rollout", config.rollout.env)):
        for name, value in variables.items():
            if not name or "=" in name or "\0" in name:
                yield f"[{table}] env: {name!r} can't be the name of an environment variable"
            if "\0" in value:
                yield f"[{table}] env, {name}: the value holds a NUL character, which an environment variable can't"


def paths(config: Config) -> Iterator[str]:
    named = {
        "[run] dir": config.run.dir,
        "[model] path": config.model.path,
        "[model] revision": config.model.revision,
        "[model] tokenizer": config.model.tokenizer,
    }
    for where, path in named.items():
        if path is not None and "\0" in path:
            yield f"{where}: {path!r} holds a NUL character, which no path has"


def best_checkpoint(config: Config) -> Iterator[str]:
    best = config.checkpoint.best
    if best is None:
        return
    if config.eval is None:
        yield "[checkpoint.best]: nothing is evaluated. Add an [eval] section"
    elif config.eval.every is None:
        yield "[checkpoint.best]: without [eval] every, only the final version would be evaluated. Set it"
    if best.prefer is None and best.metric not in PREFERENCES:
        yield f"[checkpoint.best] prefer: say whether 'lowest' or 'highest' is the best {best.metric!r}"


def best_metric(config: Config, *, known: tuple[str, str]) -> Iterator[str]:
    """Refuse a metric that only the other mode has. Hooks may add any."""
    best = config.checkpoint.best
    if best and best.metric in PREFERENCES and best.metric not in known and not config.plugins.enable:
        yield (
            f"[checkpoint.best] metric = {best.metric!r}: an evaluation of algorithm {config.algorithm.name!r} has "
            f"{' and '.join(known)}"
        )


def weights(config: Config) -> Iterator[str]:
    if not config.rewards:
        yield (
            f"[[rewards]]: algorithm {config.algorithm.name!r} learns from sampled completions and needs at least one "
            "reward. `rlx plugins` lists them"
        )
    elif all(reward.weight == 0 for reward in config.rewards):
        yield "[[rewards]]: every weight is 0, so nothing could be learnt"
    if config.filter_rewards and all(reward.weight == 0 for reward in config.filter_rewards):
        yield "[[filter_rewards]]: every weight is 0, so no group would be informative"


def rl_limits(config: Config) -> Iterator[str]:
    if config.algorithm.drop_uninformative and config.algorithm.group_size < 2:
        yield "[algorithm] drop_uninformative: a group of one completion is never informative; set group_size"
    if config.policy.max_sequence_tokens is not None:
        yield "[policy] max_sequence_tokens: only SFT rows have it; completions are limited by [rollout] max_tokens"


def no_rewards(config: Config) -> Iterator[str]:
    if config.rewards:
        yield f"[[rewards]]: algorithm {config.algorithm.name!r} learns from dataset rows; it ignores rewards"
    if config.filter_rewards:
        yield f"[[filter_rewards]]: algorithm {config.algorithm.name!r} learns from dataset rows; there are no groups"
    if config.algorithm.drop_uninformative:
        yield f"[algorithm] drop_uninformative: {config.algorithm.name!r} learns from dataset rows; there are no groups"
    if config.eval and config.eval.rewards:
        yield f"[[eval.rewards]]: algorithm {config.algorithm.name!r} measures the loss on rows; it ignores rewards"


def no_sampling(config: Config) -> Iterator[str]:
    if config.asynchrony.max_staleness > 0:
        yield (
            f"[async] max_staleness = {config.asynchrony.max_staleness}: algorithm {config.algorithm.name!r} learns "
            "from dataset rows, which don't grow stale"
        )
    # Compared with the defaults, not `model_fields_set`: a resumed run reads a config with every key filled in.
    changed = [name for name, value in RolloutConfig() if getattr(config.rollout, name) != value]
    if changed:
        keys = ", ".join(changed)
        yield f"[rollout] {keys}: algorithm {config.algorithm.name!r} learns from dataset rows and starts no engine"


Rule = Callable[[Config], Iterator[str]]

_RULES: tuple[Rule, ...] = (
    engine_keys,
    best_effort,
    repeats,
    length,
    optimizer,
    updates,
    greedy,
    something_to_do,
    environments,
    paths,
    best_checkpoint,
)
_RL_RULES: tuple[Rule, ...] = (weights, rl_limits, partial(best_metric, known=("eval/accuracy", "eval/reward")))
_SFT_RULES: tuple[Rule, ...] = (
    no_rewards,
    no_sampling,
    partial(best_metric, known=("eval/loss", "eval/perplexity")),
)
