"""vLLM's own config objects, made before an engine is started, by a process that imports vLLM.

It finds what only vLLM knows: the range of an argument's value, arguments that exclude each other, and models that
vLLM has no implementation of. It starts no engine and reads no weights.

Importing vLLM takes longer than all other checks together. So the process is started only if it can find something:

* `[rollout.vllm]` sets more than `_is_plain` knows to be valid, or `[rollout] env` sets one of vLLM's variables; or
* the model's architecture is not one of `TRIED`, with which rlx's own arguments are known to be valid.

It runs beside the other checks: `DryConfig.start` returns at once, and `finish` waits. Its end is that of the context.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from rlx.config.schema import Config
from rlx.errors import ConfigError, UsageError
from rlx.models.architectures import DEFAULT_CONTEXT
from rlx.plugins.resolve import find_module
from rlx.preflight.checks.memory import KV_SPACE
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.problems import Problems
from rlx.preflight.engine.arguments import written
from rlx.preflight.engine.head_sizes import check_head_size
from rlx.rollout.engine_arguments import engine_arguments, engine_environment

TRIED = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Architectures that vLLM takes with rlx's own arguments, whatever the shape, apart from the size of a head."""
PLAIN_SEQUENCES = 256
"""vLLM wants a token budget that is at least max_num_seqs. Its default budgets are above this number."""
LIMIT_SECONDS = 300.0
_LAST_LINES = 3


def is_needed(config: Config, facts: ModelFacts) -> bool:
    """Return whether vLLM could refuse what the other checks let pass.

    A model of which only config.json is here is left out: vLLM wants its tokenizer, too.
    """
    if facts.only_config or find_module("vllm") is None:
        return False
    variables = any(name.startswith("VLLM_") and name != KV_SPACE for name in config.rollout.env)
    plain = all(_is_plain(name, value, config, facts) for name, value in config.rollout.vllm.items())
    return variables or not plain or not set(facts.architectures) & TRIED


def _is_plain(name: str, value: object, config: Config, facts: ModelFacts) -> bool:
    """Return whether vLLM takes this argument, whatever the others are. Its type is the right one."""
    number = value if isinstance(value, int | float) else 0
    match name:
        case "enforce_eager" | "enable_prefix_caching" | "disable_log_stats":
            return True
        case "max_model_len":
            return facts.context is not None and 0 < number <= facts.context
        case "max_num_seqs":
            return 0 < number <= PLAIN_SEQUENCES
        case "gpu_memory_utilization":
            return 0 < number <= 1
        case "kv_cache_memory_bytes":
            return number > 0
        case "distributed_executor_backend":
            return value == "mp" or (value == "uni" and config.rollout.tensor_parallel == 1)
    return False


@dataclass
class DryConfig:
    """The process that makes the config objects of replica 0."""

    config: Config
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    log: IO[bytes]

    @classmethod
    @contextmanager
    def start(cls, config: Config) -> Iterator[DryConfig]:
        """Start the process; it is ended with the context."""
        request = {
            "arguments": engine_arguments(config, 0),
            "own": list(config.rollout.vllm),
            "context": DEFAULT_CONTEXT,
        }
        environment = {**os.environ, **engine_environment(config, 0), "VLLM_LOGGING_LEVEL": "ERROR"}
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
            # A date or time of TOML becomes text, which no argument of vLLM is.
            stdin.write(json.dumps(request, default=str).encode())
            stdin.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-m", "rlx.preflight.engine.dry_config_child"],
                stdin=stdin,
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,  # vLLM starts a process to look at a model's class: all are ended together
            )
            try:
                yield cls(config, process, out, log)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def finish(self, problems: Problems) -> None:
        """Wait for the process, and add what vLLM refuses."""
        try:
            code = self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            problems.note(
                f"vLLM's configuration was not checked: vLLM had not made it after {LIMIT_SECONDS:g} s. "
                "`rlx run` waits for the engine until [run] start_seconds."
            )
            return
        if code != 0:
            self.log.seek(0)
            lines = self.log.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
            said = "\n".join(lines) or f"the process that imports it ended with exit code {code}."
            problems.add(UsageError(f"vLLM can't be used: {said}"))
            return
        self.output.seek(0)
        answer = json.load(self.output)
        for name, reasons in answer.get("refused", ()):
            about = [reason for field, reason in reasons if field == name]
            said = "; ".join(about or [": ".join(filter(None, reason)) for reason in reasons])
            if name is None:
                refused = f"[model] path {self.config.model.path!r}: vLLM can't make an engine of it"
            else:
                refused = f"[rollout.vllm] {name} = {written(self.config.rollout.vllm[name])}: vLLM refuses it"
            problems.add(ConfigError(f"{refused}: {said}"))
        if "head_size" in answer:
            problems.passes(check_head_size, self.config, answer["head_size"], latent=answer["latent"])
