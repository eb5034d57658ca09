"""`rlx check`: show the components and the size of a run, or of a resume, or the errors in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlx.errors import UsageError
from rlx.launch.changes import resume_report
from rlx.plugins.catalog import SINGULAR
from rlx.preflight.checks.memory import format_bytes
from rlx.preflight.load import load_earlier, load_run
from rlx.preflight.plan import RunPlan, prepare
from rlx.preflight.trials.progress import Progress
from rlx.script.runner import find_script
from rlx_cli.messages import plain, say_note, say_progress, wide_console

if TYPE_CHECKING:
    from rlx.boot import PluginRecord
    from rlx.preflight.trials.lengths import Lengths, Limit
    from rlx.preflight.trials.scan import Scan


def check_command(
    config: Path | None,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    script: str | None = None,
    arguments: Sequence[str] = (),
    *,
    data: bool = False,
    resume: Path | None = None,
) -> None:
    """Check a run and print what it consists of. Raises UsageError with every problem found."""
    if (config is None) == (resume is None):
        raise UsageError("Say what to check: rlx check X.toml [SCRIPT.py], or rlx check --resume RUN_DIR.")
    if config is not None:
        found = find_script(script, arguments, Path.cwd()) if script is not None else None
        loaded = load_run(config, sets, policy, rollout, script=found)
    else:
        assert resume is not None
        loaded = load_earlier(resume, sets, policy, rollout)
    console = wide_console()

    def show(table: str, found: Scan, limit: Limit | None) -> None:
        lines = found.report(table, *((limit.tokens, limit.named) if limit else (None, "")))
        console.print(plain("\n".join([*lines, ""])))

    plan = prepare(loaded, directory=resume, progress=Progress(say_progress), on_all_rows=show if data else None)
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(plan):
        facts.add_row(Text(name, "bold"), plain(value))
    console.print(Group(_components(plan), Text(), facts, Text()))
    if resume is not None:
        console.print(plain("\n".join([*resume_report(plan.config, resume, plan.source), ""])))
    for note in (*plan.lacks, *plan.notes):
        say_note(note)
    checked = resume or config
    if plan.lacks:
        text = f"{checked} is fine, but not for this machine: `rlx run` here would fail."
        console.print(plain(text, "bold yellow"))
    else:
        console.print(plain(f"{checked} is fine.", "bold green"))


def _components(plan: RunPlan) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("component", "name", "from", "target"):
        table.add_column(column, overflow="fold")
    for record in plan.plugins.records:
        table.add_row(*map(plain, (SINGULAR[record.kind], record.name, _provider(record), record.target)))
    return table


def _provider(record: PluginRecord) -> str:
    if record.part:
        return f"the launch script: {record.part}"
    return f"{record.dist} {record.version}" if record.dist else "a file" if ".py:" in record.target else "a module"


def _facts(plan: RunPlan) -> Iterator[tuple[str, str]]:
    config, facts = plan.config, plan.facts
    count = facts.parameters or (plan.size and plan.size.parameters)
    parameters = f"{count:,} parameters" if count else "size not known before it is fetched"
    yield "model", f"{config.model.path} ({facts.model_type}, {parameters})"
    yield "data", _data(plan)
    for table, lengths in plan.lengths.items():
        yield "", _lengths(table, lengths)
    groups, size = config.policy.groups_per_step, config.algorithm.group_size
    batch = f"{groups:,} groups of {size} completions" if plan.rollouts else f"{groups:,} rows"
    length = f"{config.run.steps:,}" if config.run.epochs is None else f"{config.run.epochs:g} epochs, in steps"
    yield "steps", f"{length} of {batch}"
    yield "processes", _processes(plan)
    yield from _memory(plan)


def _data(plan: RunPlan) -> str:
    if plan.data is None:
        return "not read: no tokenizer yet"
    train, held_out = plan.data.train, plan.data.held_out
    return f"{train.size:,} rows" + (f", {held_out.size:,} to evaluate" if held_out is not None else "")


def _lengths(table: str, lengths: Lengths) -> str:
    """Describe the lengths of tokenised rows: `[dataset]: 20 tokens in the median, 363 in the longest of 24 rows`."""
    known = sorted(lengths.tokens.values())
    tried = f"{len(known):,} rows" if len(known) == lengths.rows else f"the {len(known):,} rows tried"
    return f"{table}: {known[len(known) // 2]:,} tokens in the median, {known[-1]:,} in the longest of {tried}"


def _processes(plan: RunPlan) -> str:
    config = plan.config
    parts = ["controller", f"{config.policy.parallel.world_size} policy rank(s)"]
    if plan.rollouts:
        rollout = config.rollout
        parts.append(f"{rollout.replicas} engine(s) of {rollout.tensor_parallel} worker(s)")
        parts.append(f"{rollout.replicas * rollout.reward_workers} reward worker(s)")
    return ", ".join(parts)


def _memory(plan: RunPlan) -> Iterator[tuple[str, str]]:
    if plan.memory is not None:
        yield "memory", f"at least {format_bytes(plan.memory.total)} of {format_bytes(plan.available)} available"
        yield from _parts(plan.memory.lines())
    elif plan.devices is not None:
        yield "memory", f"at least {format_bytes(plan.devices.rank)} on each policy rank's device, before activations"
        yield from _parts(plan.devices.lines())
        if plan.rollouts:
            weights = format_bytes(plan.devices.engine_weights)
            yield "", f"at least {weights} on each engine worker's, before the key-value cache"
    else:
        yield "memory", "not estimated: the weights are not here yet"


def _parts(lines: list[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    for name, size in lines:
        yield "", f"{format_bytes(size):>11}  {name}"
