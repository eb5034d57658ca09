"""`generate(source, ask)`: sample completions of a prompt with the engine that runs sample with.

The weights are those of a model's folder or Hub name, or of a run: its export, or else its newest checkpoint, which is
exported into a temporary folder first.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlx.config.schema import Config
from rlx.config.sections.model import ModelConfig
from rlx.earlier.directory import ended_run
from rlx.earlier.export import export_run
from rlx.errors import UsageError
from rlx.launch.signals import signals_interrupt
from rlx.names import CONFIG_FILE, ENVIRONMENT_FILE, EXPORT
from rlx.packers.prompt import encode_prompt
from rlx.packers.tokenizer import load_tokenizer
from rlx.preflight.checks.model_facts import model_facts
from rlx.rollout.engine_arguments import engine_arguments, engine_environment

if TYPE_CHECKING:
    from rlx.rollout.completion import Completion

SECONDS = 3600.0
"""Longest time for all completions."""


@dataclass(frozen=True)
class Ask:
    """The completions to sample."""

    prompt: str
    samples: int = 1
    max_tokens: int = 256
    temperature: float = 1.0
    """0 is greedy."""
    seed: int = 0
    chat: bool | None = None
    """Whether the prompt is a user's message. Default: whether the tokenizer has a chat template."""


def generate(source: str, ask: Ask) -> list[str]:
    """Return the texts of the completions, as rewards see them.

    source: a run's directory, a model's folder, or its name on the Hub.

    Raises UsageError for everything that the caller can change, RunError if the engine fails.
    """
    with ExitStack() as stack:
        config = stack.enter_context(_config(source, ask.seed))
        tokenizer = load_tokenizer(config.model)
        chat = tokenizer.chat_template is not None if ask.chat is None else ask.chat
        prompt = encode_prompt(tokenizer, [{"role": "user", "content": ask.prompt}] if chat else ask.prompt)
        if not prompt:
            raise UsageError("The prompt is empty.")
        context = model_facts(config.model).context
        if context is not None and len(prompt) + 1 > context:
            raise UsageError(f"The prompt has {len(prompt)} tokens, and the model's context is {context}.")
        # vLLM reads its environment on import.
        os.environ.update(engine_environment(config, 0))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        stack.enter_context(_stdout_to_stderr())
        stack.enter_context(signals_interrupt())
        stack.callback(_kill_children)
        completions = asyncio.run(_sample(config, prompt, ask))
    from rlx.rollout.groups import completion_texts

    return completion_texts(completions, tokenizer)


async def _sample(config: Config, prompt: list[int], ask: Ask) -> list[Completion]:
    from rlx.rollout.engine import Engine

    engine = await Engine.start(engine_arguments(config, 0), "rlx generate")
    try:
        room = engine.context - len(prompt)
        pending = await engine.submit(
            prompt, samples=ask.samples, max_tokens=min(ask.max_tokens, room), temperature=ask.temperature
        )
        return await asyncio.wait_for(engine.collect(pending), SECONDS)
    except TimeoutError as error:
        raise UsageError(f"The completions took more than {SECONDS:g} s. Ask for fewer, or shorter ones.") from error
    finally:
        engine.close()


def _kill_children() -> None:
    """Kill processes of vLLM that are left: those of an engine whose start was interrupted."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join(10)


@contextmanager
def _config(source: str, seed: int) -> Iterator[Config]:
    """Yield the config of an engine with the weights of `source`."""
    path = Path(source)
    if not (path / CONFIG_FILE).is_file() or not (path / ENVIRONMENT_FILE).is_file():
        yield _of_model(source, seed)
        return
    with tempfile.TemporaryDirectory(prefix="rlx-generate-") as temporary:
        with ended_run(path) as run:
            config, export = run.config, run.path / EXPORT
        if not export.is_dir():
            exported = export_run(path, to=Path(temporary) / EXPORT)
            export = exported.path
            for sentence in exported.skipped:
                sys.stderr.write(f"note: {sentence}. The one before is used.\n")
        changes = {"run": config.run.model_copy(update={"seed": seed}), "model": ModelConfig(path=str(export))}
        yield config.model_copy(update=changes)


def _of_model(source: str, seed: int) -> Config:
    model = ModelConfig(path=source)
    model_facts(model)  # raises if the model does not exist
    file = Path(source) / "config.json"
    dtype = json.loads(file.read_text()).get("dtype") if file.is_file() else None
    return Config.model_validate(
        {
            "run": {"seed": seed},
            "model": {"path": source},
            "dataset": {"name": "none"},
            "policy": {"dtype": "float32" if dtype == "float32" else "bfloat16"},
        }
    )


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send the output of vLLM's processes to stderr: stdout is for completions."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
