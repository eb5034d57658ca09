"""Which keys of its config a resumed run may change.

Rules:

* Every key has a place in `ALLOWED` or in `FIXED`; a test fails for a new key without one.
* A change is allowed if the run's steps are still those of one run: what is sampled, how it is scored and how it is
  learnt from stay as they were. Where and how fast that is computed, how long the run is, what is waited for, saved,
  shown and evaluated may change.
* A key that has its earlier value is not a change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rlx.config.schema import Config

Key = tuple[str, ...]


def _table(groups: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType({key: text for text, keys in groups.items() for key in keys.split()})


SAME = "the run continues as it would have without the change"
ROUNDING = "the same sums in another order: equal up to rounding, not bit for bit"

ALLOWED: Mapping[str, str] = _table(
    {
        "more or fewer steps; with a constant learning rate only": "run.steps run.epochs",
        SAME: """
            run.resume run.launcher run.loggers run.port run.stall_seconds run.start_seconds run.heartbeat_seconds
            rollout.replicas rollout.reward_workers rollout.restarts rollout.env
            policy.restarts policy.env dataset.on_bad_row
            rewards.timeout_seconds rewards.on_error filter_rewards.timeout_seconds filter_rewards.on_error
            sync.max_logprob_diff sync.timeout_seconds plugins.best_effort meta
            checkpoint.every checkpoint.every_seconds checkpoint.keep checkpoint.export
        """,
        ROUNDING: """
            policy.parallel.dp_replicate policy.parallel.dp_shard policy.parallel.cp policy.parallel.tp
            policy.parallel.ep policy.parallel.pp policy.max_tokens_per_microbatch policy.gradient_checkpointing
            policy.logprob_chunk rollout.tensor_parallel
            rollout.vllm.gpu_memory_utilization rollout.vllm.kv_cache_memory_bytes rollout.vllm.cpu_offload_gb
            rollout.vllm.max_num_seqs rollout.vllm.max_num_batched_tokens rollout.vllm.enforce_eager
            rollout.vllm.distributed_executor_backend rollout.vllm.disable_log_stats
        """,
        "later evaluations differ from earlier ones": """
            eval.dataset.name eval.dataset.args eval.dataset.shuffle eval.dataset.on_bad_row
            eval.packer.name eval.packer.args
            eval.rewards.name eval.rewards.label eval.rewards.args eval.rewards.weight eval.rewards.group
            eval.rewards.timeout_seconds eval.rewards.on_error
            eval.every eval.limit eval.samples eval.temperature eval.max_tokens
        """,
    }
)
"""Key, without the numbers of list entries -> the effect of a change."""

FIXED: Mapping[str, str] = _table(
    {
        "it names the directory, which the run keeps": "run.name run.dir",
        "every random choice of the run comes from it": "run.seed",
        "other devices draw other random numbers": "run.device run.mode",
        "the checkpoint's weights are those of this model": """
            model.path model.revision model.tokenizer model.plugin model.trust_remote_code model.chat_template
        """,
        "the order of its rows is part of the run's state": "dataset.name dataset.args dataset.shuffle",
        "the same rows would be other tokens": "packer.name packer.args",
        "earlier and later steps would learn from other scores": """
            rewards.name rewards.args rewards.weight rewards.group
            filter_rewards.name filter_rewards.args filter_rewards.weight filter_rewards.group
        """,
        "it decides what is learnt": "algorithm.name algorithm.args algorithm.drop_uninformative",
        "it is the size of a group, and the checkpoint counts groups": "algorithm.group_size",
        "the checkpoint counts groups in steps of this size": "policy.groups_per_step",
        "its metrics and columns would change their names": "rewards.label filter_rewards.label",
        "it changes which completions are sampled": """
            rollout.max_tokens rollout.temperature rollout.dtype rollout.vllm
        """,
        "groups that are under way were leased by it": "async.max_staleness",
        "it changes what the model computes": """
            policy.dtype policy.attention policy.packing policy.dropout policy.max_sequence_tokens
        """,
        "the optimizer's moments belong to it": """
            policy.optimizer.lr policy.optimizer.betas policy.optimizer.eps policy.optimizer.weight_decay
            policy.optimizer.max_grad_norm policy.optimizer.schedule policy.optimizer.warmup_steps
            policy.optimizer.min_lr_ratio
        """,
        "versions that it would have kept may be gone": "checkpoint.best.metric checkpoint.best.prefer",
        "a hook may change what is trained": "plugins.enable plugins.enable.name plugins.enable.args",
    }
)
"""Key, without the numbers of list entries -> the reason why it can't be changed."""

_FREE_FORM = frozenset({"args", "env", "meta"})
"""Tables whose keys are not rlx's."""


def changes(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Return the keys that differ between two resolved configs, with both values; None for a key that is not there."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    keys = dict.fromkeys([*before, *after])
    pairs = {".".join(key): (before.get(key), after.get(key)) for key in keys}
    return {key: (left, right) for key, (left, right) in pairs.items() if left != right}


def refusals(old: Config, new: Config) -> list[str]:
    """Return a line for each key that a resumed run may not change, with the reason."""
    found = changes(dump(old), dump(new))
    reasons = ((key, _refusal(key, old)) for key in found)
    return [f"{key}: {reason}" for key, reason in reasons if reason]


def dump(config: Config) -> dict[str, object]:
    """Return the config as config.json has it."""
    return config.model_dump(by_alias=True, mode="json")


def effect(key: str) -> str:
    """Return the effect of a change that is allowed."""
    return ALLOWED[_known(key, ALLOWED)]


def _refusal(key: str, old: Config) -> str:
    """Return why a key can't be changed, or ""."""
    if fixed := _known(key, FIXED) if _known(key, ALLOWED) == "" else "":
        return FIXED[fixed]
    schedule = old.policy.optimizer.schedule
    if key in ("run.steps", "run.epochs") and schedule != "constant":
        return f"the learning rate of the {schedule} schedule depends on it, also that of the steps already made"
    if key.startswith("eval.") and key != "eval.every" and old.checkpoint.best is not None:
        return "[checkpoint.best] compares all evaluations of the run"
    return ""


def _known(key: str, table: Mapping[str, str]) -> str:
    """Return the entry of a key: its own, or that of a table around it; "" if there is none."""
    parts = [part for part in key.split(".") if not part.isdecimal()]
    entries = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((entry for entry in entries if entry in table), "")


def _leaves(value: object, path: Key = ()) -> Iterator[tuple[Key, object]]:
    """Yield the values of a config by their paths. Tables whose keys are not rlx's are values."""
    if isinstance(value, Mapping) and not (path and path[-1] in _FREE_FORM):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, str(number)))
    elif value is not None:
        yield path, value
