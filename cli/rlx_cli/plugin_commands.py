"""The commands `rlx plugins …`, for users of plugins, and `rlx plugin …`, for their authors, with their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rlx.errors import UsageError
from rlx_cli.group import Group

AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where an error came from.")]

plugins_app = typer.Typer(
    cls=Group, invoke_without_command=True, help="List installed components and hooks, from metadata."
)


@plugins_app.callback()
def plugins(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        from rlx_cli.plugins import plugins_command

        plugins_command(as_json=as_json)
    elif as_json:
        raise UsageError(f"Write --json at the end: rlx plugins {context.invoked_subcommand} ... --json")


@plugins_app.command()
def show(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="reward, dataset, packer, ...")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="As a config says it; also ./file.py:name.")],
    as_json: AsJson = False,
    traceback: Traceback = False,  # noqa: ARG001 - read by main(), which shows errors
) -> None:
    """Source, options with defaults, and TOML to paste, of one plugin (it is imported)."""
    from rlx_cli.plugins_show import show_command

    show_command(kind, name, as_json=as_json)


@plugins_app.command()
def check(
    dist: Annotated[str | None, typer.Argument(metavar="DIST", help="Only this distribution's.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="For each plugin.")] = 60.0,
    as_json: AsJson = False,
    traceback: Traceback = False,
) -> None:
    """Import each plugin in a process of its own: time, errors, contract."""
    from rlx_cli.plugins_check import check_plugins_command

    raise typer.Exit(check_plugins_command(dist, timeout_seconds=timeout, as_json=as_json, traceback=traceback))


plugin_app = typer.Typer(cls=Group, no_args_is_help=True, help="For those who write plugins.")


@plugin_app.callback()
def plugin() -> None:
    """Make this a group, although it has one command only."""


@plugin_app.command()
def new(
    kind: Annotated[
        str,
        typer.Argument(metavar="KIND", help="reward, dataset, packer, model, ..."),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the distribution, and of the plugin in a config.")],
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="D", help="Make it here. Default: a folder of that name.")
    ] = None,
    rlx_source: Annotated[
        str | None,
        typer.Option("--rlx", metavar="SOURCE", help="Where CI gets rlx: a wheel, or git+https://..."),
    ] = None,
) -> None:
    """Make a distribution with one plugin that works, its tests, README and CI."""
    from rlx_cli.scaffold import new_command

    new_command(kind, name, folder, rlx_source)
