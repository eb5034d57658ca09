"""Load a run as the user asks for it: from a config file and a launch script, or from an earlier run's directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlx.boot import ScriptRecord
from rlx.config.load import load_config, load_resolved
from rlx.config.schema import Config
from rlx.config.unknown import ComponentOptions
from rlx.errors import UsageError
from rlx.names import CONFIG_FILE, ENVIRONMENT_FILE
from rlx.preflight.describe import component_options
from rlx.script.merge_config import script_defaults, with_script
from rlx.script.runner import Script


@dataclass(frozen=True)
class LoadedRun:
    """A run as the user asks for it, before any check."""

    config: Config
    """With the components of the launch script named in it."""
    base_dir: Path
    """Folder that `./file.py:name` is relative to."""
    script: Script | None
    """The launch script, if there is one."""
    source: str = ""
    """The config file as the user named it, for messages."""


def load_run(
    path: Path,
    sets: Sequence[str] = (),
    policy: int | None = None,
    rollout: int | None = None,
    *,
    script: Script | None,
) -> LoadedRun:
    """Read the config and run the script. Raises ConfigError and PluginError."""

    def options_of(kind: str, name: str) -> ComponentOptions | None:
        return component_options(kind, name, path.resolve().parent)

    if script is None:
        loaded = load_config(path, sets, policy, rollout, options_of=options_of)
        return LoadedRun(loaded.config, loaded.base_dir, None, str(path))
    defaults = script_defaults(script.parts, script.name)
    loaded = load_config(path, sets, policy, rollout, defaults, options_of)
    return LoadedRun(with_script(loaded.config, script.parts), loaded.base_dir, script, str(path))


def load_earlier(
    run_dir: Path, sets: Sequence[str] = (), policy: int | None = None, rollout: int | None = None
) -> LoadedRun:
    """Load the run that has this directory, to resume it, with changes.

    Raises UsageError if it isn't a run directory, ConfigError for a change that a resumed run can't make.
    """
    config = run_dir / CONFIG_FILE
    if not config.is_file():
        raise UsageError(
            f"{run_dir} isn't a run directory: it has no {CONFIG_FILE}. --resume takes the one of an earlier run."
        )
    file = run_dir / ENVIRONMENT_FILE
    try:
        environment = json.loads(file.read_text())
        base_dir = Path(environment["base_dir"])
        record = msgspec.convert(environment.get("script"), ScriptRecord | None)
    except (OSError, ValueError, KeyError) as error:  # msgspec's ValidationError is a ValueError
        raise UsageError(f"{file} does not say how the run was started: {error!r}") from error
    loaded = load_resolved(config, base_dir, sets, policy, rollout)
    if record is None:
        return LoadedRun(loaded.config, base_dir, None, str(config))
    script = Script(record)
    return LoadedRun(with_script(loaded.config, script.parts), base_dir, script, str(config))
