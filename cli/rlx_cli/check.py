"""`rlx check`: what a run would be made of, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from rlx.plugins.kinds import SINGULAR
from rlx.preflight.check import Prepared, prepare
from rlx.preflight.load import load_run
from rlx.preflight.memory import shown
from rlx.script.runner import find_script
from rlx_cli.messages import say_note, wide_console

if TYPE_CHECKING:
    from rlx.boot import PluginRecord


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
    count = facts.parameters or (prepared.size and prepared.size.parameters)
    size = f"{count:,} parameters" if count else "size not known before it is fetched"
    yield "model", f"{config.model.path} ({facts.model_type}, {size})"
    yield "data", _data(prepared)
    yield "steps", f"{_length(prepared)} of {_batch(prepared)}"
    yield "processes", _processes(prepared)
    yield from _memory(prepared)


def _data(prepared: Prepared) -> str:
    if prepared.data is None:
        return "not read: there is no tokenizer yet"
    train, held_out = prepared.data.train, prepared.data.held_out
    return f"{train.size:,} rows" + (f", {held_out.size:,} to evaluate" if held_out is not None else "")


def _length(prepared: Prepared) -> str:
    run = prepared.config.run
    return f"{run.steps:,}" if run.epochs is None else f"{run.epochs:g} epochs, in steps"


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
    if prepared.memory is not None:
        yield "memory", f"at least {shown(prepared.memory.total)} of {shown(prepared.available)} available"
        yield from _parts(prepared.memory.lines())
    elif prepared.devices is not None:
        yield "memory", f"at least {shown(prepared.devices.rank)} on each policy rank's device, before activations"
        yield from _parts(prepared.devices.lines())
        if prepared.rollouts:
            weights = shown(prepared.devices.engine_weights)
            yield "", f"at least {weights} on each engine worker's, before the key-value cache"
    else:
        yield "memory", "not estimated: the weights are not here yet"


def _parts(lines: list[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    for name, size in lines:
        yield "", f"{shown(size):>11}  {name}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
