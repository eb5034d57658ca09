"""All checks of the engines, with those of vLLM's own config objects running beside what else is checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rlx.config.schema import Config
from rlx.preflight.checks.check import check_quantised, check_tensor_parallel
from rlx.preflight.checks.model_facts import ModelFacts
from rlx.preflight.checks.problems import Problems
from rlx.preflight.engine.arguments import check_engine_arguments
from rlx.preflight.engine.dry_config import DryConfig, is_needed
from rlx.preflight.engine.generation import generation_notes
from rlx.preflight.engine.head_sizes import check_head_size
from rlx.preflight.trials.lengths import check_completions_fit


@contextmanager
def engine_checks(config: Config, facts: ModelFacts, problems: Problems, *, devices: bool) -> Iterator[None]:
    """Check the engines. The slow part runs during the block, and is waited for at its end.

    devices: whether this machine has the devices of the run. Without them vLLM configures itself for others.
    """
    sound = check_engine_arguments(config.rollout.vllm, problems)
    check_completions_fit(config, facts, problems)
    for check in (check_tensor_parallel, check_quantised):
        problems.passes(check, config, facts)
    if facts.head_size is not None:
        problems.passes(check_head_size, config, facts.head_size, latent=False)
    for note in generation_notes(config):
        problems.note(note)
    rollout = config.rollout.model_copy(update={"vllm": dict(sound)})
    config = config.model_copy(update={"rollout": rollout})
    if not devices or facts.quantised or not is_needed(config, facts):
        yield
        return
    with DryConfig.start(config) as dry_config:
        yield
        dry_config.finish(problems)
