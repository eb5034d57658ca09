"""`prepare(loaded)`: check a run completely, in one pass. The result is the plan that `rlx run` carries out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rlx.boot import Boot, Endpoint, ScriptRecord
from rlx.config.rules import learning_contradictions
from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.fingerprint import Fingerprints
from rlx.models.select import DEFAULT_MODEL_PLUGIN
from rlx.platform import PLATFORMS
from rlx.plugins.resolve import model_hint
from rlx.plugins.session import Plugins
from rlx.preflight.checks.check import call_configure, check_port
from rlx.preflight.checks.machine import check_writable, disk_notes, missing_devices
from rlx.preflight.checks.memory import (
    DevicePlan,
    MemoryPlan,
    available_memory,
    check_memory,
    plan_devices,
    plan_memory,
)
from rlx.preflight.checks.model import ModelSize, check_architecture, check_model
from rlx.preflight.checks.model_facts import ModelFacts, model_facts
from rlx.preflight.checks.plugins import PlacedReward, Sources, check_components, check_learning, open_algorithm
from rlx.preflight.checks.problems import Problems
from rlx.preflight.checks.unusual import unusual
from rlx.preflight.engine.check import engine_checks
from rlx.preflight.epochs import with_steps
from rlx.preflight.load import LoadedRun
from rlx.preflight.trials.lengths import Lengths
from rlx.preflight.trials.objects import ObjectTrial
from rlx.preflight.trials.progress import Progress, silent
from rlx.preflight.trials.rewards import RewardTrial
from rlx.preflight.trials.rows import OnAllRows, RowCheck, Rows


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A run that can start: a config without contradictions, its plugins resolved, and the results of the checks."""

    config: Config
    """With `model.plugin` and `packer.name` filled in, and `run.epochs` in steps."""
    base_dir: Path
    """Folder of the config file."""
    source: str = ""
    """The config file as the user named it, for messages."""
    plugins: Plugins
    """The launcher's own; their records are the content of plugins.json and part of every process's boot data."""
    script: ScriptRecord | None = None
    """The launch script, for the processes that need one of its components."""
    rollouts: bool
    """True if the algorithm learns from samples (RL), False if it learns from dataset rows (SFT)."""
    data: Fingerprints | None = None
    """Fingerprints of the datasets, as the launcher read them; None without a tokenizer to read them with."""
    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    """Lengths of the rows that were tokenised, by the dataset's place in the config."""
    facts: ModelFacts
    size: ModelSize | None = None
    """None if the model is on the Hub and not downloaded yet."""
    memory: MemoryPlan | None = None
    devices: DevicePlan | None = None
    available: int = 0
    """Bytes of free memory."""
    lacks: tuple[str, ...] = ()
    """Devices that the run needs and this machine does not have; `rlx run` refuses such a run."""
    notes: tuple[str, ...] = ()
    """Things that the user should know and that don't stop the run."""


def prepare(
    loaded: LoadedRun,
    *,
    directory: Path | None = None,
    progress: Progress | None = None,
    on_all_rows: OnAllRows | None = None,
    make_objects: bool = True,
) -> RunPlan:
    """Check a run. Raises UsageError with every problem found.

    directory: the run's own directory. Default: a new one below `run.dir`.
    progress: reports checks that take long. on_all_rows: if given, all rows are tokenised, and it
    is called for each dataset.
    make_objects: whether launcher and loggers are made as a trial. `rlx run` makes its own before it starts anything,
    so it needs no trial, unless there are other problems to list them with.
    """
    problems = Problems()
    problems.passes(check_port, loaded.config.run.port)
    facts = problems.attempt(model_facts, loaded.config.model)
    sources = Sources.open(loaded.config, loaded.base_dir, problems, loaded.script)
    if sources is None:
        raise problems.error(loaded.source)
    config, plugins = sources.open_plugins(loaded.config, facts.model_type if facts else None, problems)
    algorithm, rollouts = open_algorithm(config, plugins, problems)
    if rollouts is not None:
        for contradiction in learning_contradictions(config, rollouts=rollouts):
            problems.add(ConfigError(contradiction))
    if algorithm is not None:
        problems.passes(check_learning, algorithm, config, plugins)
    rewards = check_components(config, plugins, problems)
    lacks = missing_devices(config, rollouts=bool(rollouts))
    folder = Path(config.run.dir) if directory is None else directory
    problems.passes(check_writable, folder, "[run] dir" if directory is None else "the run directory")
    memory, available = None, available_memory()
    if facts is not None and algorithm is not None:
        memory = problems.attempt(plan_memory, config, facts, algorithm)
        if memory is not None:
            problems.passes(check_memory, memory, available, config)
    trials = _Trials(loaded, plugins, problems, progress or silent(), on_all_rows, make_objects=make_objects)
    config, size, rows = trials.make(config, facts, rewards, rollouts=rollouts, devices=not lacks)
    problems.stop(loaded.source)
    assert facts is not None, "without its result there is a problem"
    assert algorithm is not None, "without its result there is a problem"
    return RunPlan(
        config=config,
        base_dir=loaded.base_dir,
        source=loaded.source,
        plugins=plugins,
        script=loaded.script.record if loaded.script else None,
        rollouts=algorithm.rollouts,
        data=rows.fingerprints,
        lengths=rows.lengths,
        facts=facts,
        size=size,
        memory=memory,
        devices=plan_devices(config, size, algorithm),
        available=available,
        lacks=lacks,
        notes=(
            *problems.notes,
            *_notes(config, facts, rollouts=algorithm.rollouts),
            *disk_notes(config, facts.parameters or (size.parameters if size else None), folder),
        ),
    )


@dataclass(frozen=True)
class _Trials:
    """The checks that take long, and those that run code of plugins."""

    loaded: LoadedRun
    plugins: Plugins
    problems: Problems
    progress: Progress
    on_all_rows: OnAllRows | None
    make_objects: bool

    def make(
        self,
        config: Config,
        facts: ModelFacts | None,
        rewards: Sequence[PlacedReward],
        *,
        rollouts: bool | None,
        devices: bool,
    ) -> tuple[Config, ModelSize | None, Rows]:
        """Return the config with what was found out for it, the model's size, and the results of the rows."""
        plugins, problems, progress = self.plugins, self.problems, self.progress
        boot, size, rows = _trial_boot(config, self.loaded, plugins, rollouts=bool(rollouts)), None, Rows()
        with ExitStack() as background:
            # Their processes start while this one imports torch.
            if facts is not None and rollouts:
                background.enter_context(engine_checks(config, facts, problems, devices=devices))
            objects = background.enter_context(ObjectTrial(boot, problems, progress)) if self.make_objects else None
            trial = None
            if rollouts:
                trial = background.enter_context(RewardTrial(boot, plugins, rewards, problems, progress))
            if facts is not None and plugins.names("models"):
                size = problems.attempt(check_model, config, plugins, facts)
            if size is not None and rollouts is not None:
                config = problems.attempt(check_architecture, config, problems, rollouts=rollouts) or config
            if trial is not None:
                trial.finish_loading()
            if facts and rollouts is not None and (not facts.only_config or config.model.tokenizer is not None):
                check = RowCheck(config, plugins, facts, problems, progress, trial, self.on_all_rows)
                rows = check.check(rewards)
                if rows.epoch is not None:
                    config = problems.attempt(with_steps, config, rows.epoch) or config
            problems.passes(call_configure, config, plugins)
            if objects is None and problems:
                objects = background.enter_context(ObjectTrial(boot, problems, progress))
            if objects is not None:
                objects.finish()
        return config, size, rows


def _trial_boot(config: Config, loaded: LoadedRun, plugins: Plugins, *, rollouts: bool) -> Boot:
    """Return the boot data of the processes that try plugins."""
    return Boot(
        kind="check",
        name="check",
        index=0,
        attempt=1,
        run_dir="",
        base_dir=str(loaded.base_dir.absolute()),
        config=config.model_dump(by_alias=True, mode="json"),
        plugins=plugins.records,
        rollouts=rollouts,
        endpoint=Endpoint("", 0, "", "", ""),
        script=loaded.script.record if loaded.script else None,
    )


def _notes(config: Config, facts: ModelFacts, *, rollouts: bool) -> Iterator[str]:
    ranks = config.policy.parallel.world_size
    engines = config.rollout.replicas * config.rollout.tensor_parallel if rollouts else 0
    cores = os.cpu_count() or 1
    hint = model_hint(facts.model_type)
    if hint is not None and config.model.plugin == DEFAULT_MODEL_PLUGIN:
        yield f"The model is built by transformers. {hint}"
    if facts.only_config:
        yield f"The weights and the tokenizer of {config.model.path} are not here yet: `rlx run` needs them."
    if PLATFORMS[config.run.device].host_memory and ranks + engines > 2 * cores:
        yield f"{ranks} policy ranks and {engines} engine workers share {cores} cores: expect them to wait."
    groups, shares = config.policy.groups_per_step, config.policy.parallel.data_size
    if groups < shares:
        yield f"[policy] groups_per_step = {groups} is less than {shares} ranks: some idle."
    yield from unusual(config, rollouts=rollouts)
