"""First guesses: names that a newcomer writes, from other frameworks or by analogy, and the keys that they stand for.

Rule: a guess is only ever part of a message. No other name is accepted in place of a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

_NAMES_OF: Mapping[str, str] = MappingProxyType(
    {
        "policy.optimizer.lr": "learning_rate actor_learning_rate",
        "policy.optimizer.schedule": "lr_scheduler lr_scheduler_type scheduler lr_schedule",
        "policy.optimizer.warmup_steps": "lr_warmup_steps num_warmup_steps warmup warmup_ratio",
        "policy.optimizer.betas": "adam_beta1 adam_beta2 beta1 beta2",
        "policy.optimizer.eps": "adam_epsilon adam_eps",
        "policy.optimizer.max_grad_norm": "clip_grad grad_clip gradient_clipping max_gradient_norm",
        "algorithm.group_size": (
            "num_generations n_samples_per_prompt num_samples samples_per_prompt rollouts_per_example "
            "rollout_n n_rollouts generations"
        ),
        "rollout.max_tokens": (
            "max_new_tokens max_completion_length max_completion_tokens max_response_length "
            "response_length generate_max_len"
        ),
        "rollout.temperature": "sampling_temperature temp",
        "rollout.replicas": "num_engines vllm_num_engines num_replicas",
        "rollout.tensor_parallel": "tensor_parallel_size vllm_tensor_parallel_size",
        "policy.groups_per_step": (
            "batch_size train_batch_size rollout_batch_size per_device_train_batch_size "
            "global_batch_size prompts_per_step"
        ),
        "policy.max_tokens_per_microbatch": "micro_batch_size micro_train_batch_size gradient_accumulation_steps",
        "policy.max_sequence_tokens": "max_seq_length max_seq_len max_length",
        "policy.dtype": "torch_dtype mixed_precision precision bf16 fp16",
        "policy.attention": "attn_implementation flash_attn",
        "policy.gradient_checkpointing": "activation_checkpointing grad_checkpointing",
        "run.epochs": "num_train_epochs num_epochs n_epochs total_epochs epoch",
        "run.steps": "max_steps num_steps total_steps train_steps num_training_steps",
        "run.dir": "output_dir save_path out_dir output",
        "run.name": "run_name experiment_name project_name",
        "run.loggers": "report_to logger use_wandb use_tensorboard logging wandb tensorboard",
        "run.seed": "random_seed manual_seed",
        "checkpoint.every": "save_steps save_every save_freq save_interval ckpt_every",
        "checkpoint.keep": "save_total_limit max_ckpt_num max_checkpoints",
        "eval.every": "eval_steps eval_every eval_interval eval_freq test_freq",
        "model.path": "model_name model_name_or_path model_path pretrain base_model",
        "model.tokenizer": "tokenizer_name tokenizer_path tokenizer_name_or_path",
        "dataset.name": "dataset_name train_dataset prompt_data",
        "eval.dataset": "eval_dataset val_dataset val_files",
        "rewards.weight": "reward_weight reward_weights",
        "rewards.name": "reward_funcs reward_functions reward_fns reward_model reward_name",
        "async.max_staleness": "staleness max_off_policy_steps async_level off_policy",
        "algorithm.args.kl_coef": "beta kl_beta init_kl_coef kl_loss_coef kl_penalty",
        "algorithm.args.clip_low": "epsilon clip_eps cliprange clip_range clip_ratio",
        "algorithm.args.clip_high": "epsilon_high clip_eps_high clip_ratio_high",
        "rollout.vllm.gpu_memory_utilization": "gpu_memory_utilization vllm_gpu_memory_utilization",
        "rollout.vllm.max_model_len": "max_model_len max_model_length context_length",
        "policy.parallel.dp_shard": "fsdp_size num_gpus world_size dp_size data_parallel",
        "policy.parallel.tp": "tp_size tensor_parallelism",
        "policy": "training trainer actor",
        "rollout": "sampling sampling_params generation inference engine",
        "policy.optimizer": "optim adamw",
        "algorithm.name": "grpo ppo sft loss",
        "eval": "validation evaluation val",
        "plugins.enable": "hooks callbacks",
    }
)
"""Path of a key (or table) of rlx -> names for it in TRL, verl, OpenRLHF and others."""

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {name: path for path, names in _NAMES_OF.items() for name in names.split()}
)
"""Name elsewhere -> path of the key (or table) of rlx."""

SAME_TABLE: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("model", "name"): "model.path",
        ("model", "model"): "model.path",
        ("model", "dtype"): "policy.dtype",
        ("dataset", "dataset"): "dataset.name",
        ("algorithm", "type"): "algorithm.name",
        ("policy", "lr"): "policy.optimizer.lr",
        ("rollout", "n"): "algorithm.group_size",
        ("rewards", "function"): "rewards.name",
        ("rewards", "type"): "rewards.name",
        ("eval", "name"): "eval.dataset.name",
    }
)
"""Table and key that are wrong in that table only -> path of the key that is meant."""

_READERS: Mapping[str, str] = MappingProxyType(
    {
        ".jsonl": "jsonl",
        ".json": "jsonl",
        ".ndjson": "jsonl",
        ".parquet": "parquet",
        ".csv": "hf",
        ".arrow": "hf",
        ".txt": "hf",
    }
)
"""Ending of a data file -> the dataset that reads it."""
_HUB_PAGE = re.compile(r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/datasets/|hf://datasets/)([\w.-]+/[\w.-]+).*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def key_meant(table: str, name: str) -> str | None:
    """Return `[policy.optimizer] lr` for a name that other frameworks use; None if it isn't known.

    table: the dotted path of the table in which the name was written.
    """
    path = SAME_TABLE.get((table, name)) or OTHER_NAMES.get(name.lower().replace("-", "_"))
    return None if path is None else as_written(path)


def as_written(path: str) -> str:
    """Write the path of a key as a file has it: `[policy.optimizer] lr`, `[[rewards]] weight`, `[rollout]`."""
    table, _, key = path.rpartition(".")
    if path in _TABLES:
        return f"[{path}]"
    return f"[[{table}]] {key}" if table == "rewards" else f"[{table}] {key}"


_TABLES = frozenset({"policy", "rollout", "policy.optimizer", "eval", "eval.dataset"})


def dataset_meant(word: str) -> str:
    """Return `name = "jsonl", args = { path = "data/train.jsonl" }` for a file, a folder, a pattern, an address or a
    name on the Hub that stands where a dataset's name is expected; "" for any other word.
    """
    page = _HUB_PAGE.fullmatch(word)
    if page is not None:
        return _dataset("hf", page[1])
    path = urlsplit(word).path if "://" in word else word
    reader = _READERS.get(_ending(path))
    if reader is not None:
        builder = (
            _ending(path).removeprefix(".").replace("ndjson", "json").replace("jsonl", "json").replace("txt", "text")
        )
        if "://" in word or (reader == "hf" and "*" in word):
            return f'name = "hf", args = {{ path = {json.dumps(builder)}, data_files = {json.dumps(word)} }}'
        return _dataset(reader, word)
    if not word or ":" in word:
        return ""
    if word.startswith((".", "/", "~")) or word.endswith("/") or "*" in word or _is_folder(word):
        return _dataset("hf", word)
    return _dataset("hf", word) if _HUB_NAME.fullmatch(word) else ""


def _dataset(name: str, path: str) -> str:
    return f"name = {json.dumps(name)}, args = {{ path = {json.dumps(path, ensure_ascii=False)} }}"


def _ending(path: str) -> str:
    """Return the ending that says the format: that of `x.jsonl.gz` is `.jsonl`."""
    bare = path.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2").removesuffix(".xz")
    return f".{bare.rpartition('.')[2]}" if "." in bare else ""


def _is_folder(word: str) -> bool:
    try:
        return Path(word).is_dir()
    except (OSError, ValueError):  # too long for a path, or with a NUL in it
        return False
