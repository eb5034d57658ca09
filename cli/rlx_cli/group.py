"""The top command, extended by commands of installed distributions (entry-point group `rlx.commands`).

Their names come from metadata. A command is imported when it is called or its help is shown, and never replaces
a built-in one. An entry point names a `typer.Typer` or a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from rlx.errors import PluginError
from rlx.terminal import visible

if TYPE_CHECKING:
    from rlx.plugins.catalog import Catalog


class Group(TyperGroup):
    """A command with subcommands."""

    def get_help_option(self, ctx: Any) -> Any:
        """Return `--help` as a flag that is off. Typer's own has no default, and finding its type imports pydantic."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.default = False
        return option


class CommandGroup(Group):
    """The top command: rlx's own commands first, then the others by name."""

    def invoke(self, ctx: Any) -> None:
        """Run the command. Its return value does not count: an exit code is raised as `typer.Exit`."""
        super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        own = list(super().list_commands(ctx))
        return [*own, *(name for name in _catalog().names("commands") if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or not _catalog().named("commands", cmd_name):
            return own
        return _load(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing any. For a third-party command, show its distribution."""
        catalog, rows = _catalog(), []
        for name in self.list_commands(ctx):
            own = super().get_command(ctx, name)
            provider = ", ".join(f"{e.dist} {e.version}" for e in catalog.named("commands", name))
            text = own.get_short_help_str() if own is not None else f"From {provider}."
            rows.append((visible(name), visible(text)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def own_commands() -> list[str]:
    """Return the names of rlx's own commands."""
    from rlx_cli.main import app

    group = typer.main.get_group(app)
    return list(group.commands)


def _catalog() -> Catalog:
    from rlx.plugins.catalog import discover

    return discover(("commands",))


def _load(name: str) -> Any:
    from pathlib import Path

    from rlx.plugins.load import load
    from rlx.plugins.records import owner
    from rlx.plugins.resolve import resolve

    record = resolve("commands", name, _catalog(), Path())
    found = load(record)
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    if not callable(found):
        raise PluginError(f"{owner(record)} is a {type(found).__name__}; it must be a typer.Typer or a function.")
    wrapped = typer.Typer(add_completion=False)
    wrapped.command(name)(found)
    return typer.main.get_command(wrapped)
