"""What a run is asked to do, from a config file and a launch script, or from the directory of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from rlx.config.load import LoadedConfig, load_config, load_resolved
from rlx.errors import UsageError
from rlx.launch.boot import ScriptRecord
from rlx.launch.script import Script
from rlx.launch.script_config import script_defaults, with_script


def load_run(
    path: Path,
    sets: Sequence[str] = (),
    policy: int | None = None,
    rollout: int | None = None,
    *,
    script: Script | None,
) -> LoadedConfig:
    """Reads the config, and runs the script. Raises ConfigError and PluginError."""
    if script is None:
        return load_config(path, sets, policy, rollout)
    defaults = script_defaults(script.parts, script.name)
    return _scripted(load_config(path, sets, policy, rollout, defaults), script)


def load_earlier(run_dir: Path) -> LoadedConfig:
    """The run whose directory this is, to go on with it. Raises UsageError where it is none."""
    config = run_dir / "config.json"
    if not config.is_file():
        raise UsageError(
            f"{run_dir} is no run directory: it has no config.json. --resume takes the one of an earlier run."
        )
    base_dir, record = _started(run_dir / "environment.json")
    loaded = load_resolved(config, base_dir)
    return loaded if record is None else _scripted(loaded, Script(record))


def _scripted(loaded: LoadedConfig, script: Script) -> LoadedConfig:
    return replace(loaded, config=with_script(loaded.config, script.parts), script=script)


def _started(file: Path) -> tuple[Path, ScriptRecord | None]:
    """The config's folder, which the run's `./file.py:name` are relative to, and its launch script."""
    try:
        environment = json.loads(file.read_text())
        return Path(environment["base_dir"]), msgspec.convert(environment.get("script"), ScriptRecord | None)
    except (OSError, ValueError, KeyError) as error:  # msgspec's ValidationError is a ValueError
        raise UsageError(f"{file} does not say how the run was started: {error!r}") from error
