"""`rlx check`: what a run would be made of, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlx.launch.load import load_run
from rlx.launch.memory import shown
from rlx.launch.preflight import Prepared, prepare
from rlx.launch.script import find_script
from rlx.plugins.kinds import SINGULAR
from rlx_cli.messages import say_note, wide_console

if TYPE_CHECKING:
    from rlx.launch.boot import PluginRecord


def check_command(
    config: Path,
    sets: Sequence[str],
    policy: int | None,
    rollout: int | None,
    script: str | None = None,
    arguments: Sequence[str] = (),
) -> None:
    """Raises UsageError with what is wrong."""
    found = find_script(script, arguments, Path.cwd()) if script is not None else None
    prepared = prepare(load_run(config, sets, policy, rollout, script=found))
    console = wide_console()
    console.print(Group(_components(prepared), Text(), _facts(prepared), Text()))
    for note in prepared.notes:
        say_note(note)
    console.print(Text(f"{config} is fine.", "bold green"))


def _components(prepared: Prepared) -> Table:
    table = _table("component", "name", "from", "target")
    for record in prepared.plugins.records:
        table.add_row(*map(Text, (SINGULAR[record.kind], record.name, _provider(record), record.target)))
    return table


def _provider(record: PluginRecord) -> str:
    if record.part:
        return f"the launch script: {record.part}"
    return f"{record.dist} {record.version}" if record.dist else "a file" if ".py:" in record.target else "a module"


def _facts(prepared: Prepared) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in _lines(prepared):
        table.add_row(Text(name, "bold"), Text(value))
    return table


def _lines(prepared: Prepared) -> Iterator[tuple[str, str]]:
    config, facts = prepared.config, prepared.facts
    size = f"{facts.parameters:,} parameters" if facts.parameters is not None else "size not known before it is fetched"
    yield "model", f"{config.model.path} ({facts.model_type}, {size})"
    train, held_out = prepared.data.train, prepared.data.held_out
    yield "data", f"{train.size:,} rows" + (f", {held_out.size:,} to evaluate" if held_out is not None else "")
    yield "steps", f"{config.run.steps:,} of {_batch(prepared)}"
    yield "processes", _processes(prepared)
    yield from _memory(prepared)


def _batch(prepared: Prepared) -> str:
    groups, size = prepared.config.policy.groups_per_step, prepared.config.algorithm.group_size
    return f"{groups:,} groups of {size} completions" if prepared.rollouts else f"{groups:,} rows"


def _processes(prepared: Prepared) -> str:
    config = prepared.config
    parts = ["controller", f"{config.policy.parallel.world_size} policy rank(s)"]
    if prepared.rollouts:
        rollout = config.rollout
        parts.append(f"{rollout.replicas} engine(s) of {rollout.tensor_parallel} worker(s)")
        parts.append(f"{rollout.replicas * rollout.reward_workers} reward worker(s)")
    return ", ".join(parts)


def _memory(prepared: Prepared) -> Iterator[tuple[str, str]]:
    if prepared.memory is None:
        yield "memory", "not estimated: the weights are not here yet, or the device has memory of its own"
        return
    yield "memory", f"at least {shown(prepared.memory.total)} of {shown(prepared.available)} available"
    for name, size in prepared.memory.lines():
        yield "", f"{shown(size):>11}  {name}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
