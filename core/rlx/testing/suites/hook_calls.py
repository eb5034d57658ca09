"""The part of `check_hooks` that calls each hook once, in the order of a run, and checks its results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from types import MappingProxyType

import msgspec

from rlx.boot import PluginRecord
from rlx.errors import ConfigError
from rlx.plugins.hooks import Hooks
from rlx.plugins.registry import Registry
from rlx.plugins.resolve import sha256
from rlx.testing.stand_ins.hook_arguments import hook_arguments
from rlx.testing.suites.contract import Broken, guarded

ORDER = (
    "rlx_register", "rlx_configure", "rlx_worker_start", "rlx_model_built", "rlx_run_start", "rlx_group_scored",
    "rlx_rollout_failed", "rlx_weights_synced", "rlx_step_end", "rlx_should_stop", "rlx_evaluated",
    "rlx_checkpoint_state", "rlx_restore_state", "rlx_checkpoint_saved", "rlx_run_end",
)  # fmt: skip
ANSWERS: Mapping[str, tuple[str | None, ...]] = MappingProxyType({"rlx_rollout_failed": ("drop", "fail", None)})


def broken_calls(hooks: Hooks, record: PluginRecord, folder: Path, again: Callable[[], Hooks]) -> Iterator[Broken]:
    """Yield the findings for the rules from `call` to `state`. `folder` is empty and may be written to.

    again: registers the plugin once more, as a resumed run does.
    """
    states: list[dict[str, object]] = []
    for name in ORDER:
        if getattr(hooks.relay, name).get_hookimpls():
            todo = "Make it accept the arguments of a run; the hook reference describes them."
            if name == "rlx_restore_state" and states:
                broken = _broken_state(again(), states[0])
            else:
                broken = _broken_call(hooks, record, name, folder / name, states)
            yield from guarded("call", todo, broken)


def _broken_call(
    hooks: Hooks, record: PluginRecord, name: str, folder: Path, states: list[dict[str, object]]
) -> Iterator[Broken]:
    """`states` gets the plugin's state, if it returns one."""
    folder.mkdir()
    arguments = hook_arguments(name, folder)
    before = _history(arguments)
    call = getattr(hooks.relay, name)
    if isinstance(registry := arguments.get("registry"), Registry):
        with registry.provided_by(record):
            call(**arguments)
        return
    try:
        answer: object = call(**arguments)
    except ConfigError:
        if name != "rlx_configure":
            raise
        return  # it may refuse a config, and this one is made up
    if name == "rlx_checkpoint_state" and isinstance(answer, list):
        states.extend(answer)
    if name == "rlx_should_stop" and not (answer is None or isinstance(answer, bool | str)):
        yield Broken("answer", f"{name} returned {answer!r:.80}", "Return True, False, a reason as text, or None.")
    if name in ANSWERS and answer not in ANSWERS[name]:
        known = ", ".join(map(repr, ANSWERS[name]))
        yield Broken("answer", f"{name} returned {answer!r:.80}", f"Return one of {known}.")
    if isinstance(metrics := arguments.get("metrics"), Mapping):
        for key, value in metrics.items():
            if not (isinstance(key, str) and isinstance(value, Real)):
                yield Broken("metrics", f"{name} added {key!r}: {value!r:.80}", "Add text -> float; `float(value)`.")
    if _history(arguments) != before:
        yield Broken("history", f"{name} changed them", "Work on a copy; metrics and `trainable` may be changed.")
    try:
        json.dumps(arguments.get("summary"))
    except (TypeError, ValueError) as error:
        seen = f"after {name}, the summary can't be written as JSON: {error}"
        yield Broken("summary", seen, "Add text, numbers, lists, dicts.")


def _broken_state(hooks: Hooks, state: dict[str, object]) -> Iterator[Broken]:
    """Restore a state that went through JSON in another instance, which must then have the same state."""
    hooks.relay.rlx_restore_state(state=json.loads(json.dumps(state)))
    after = hooks.relay.rlx_checkpoint_state()
    if after != [state]:
        seen = f"{state!r:.80} was restored, and then rlx_checkpoint_state returned {after[0] if after else None!r:.80}"
        yield Broken("state", seen, "Set all that rlx_checkpoint_state returns from it.")


def _history(arguments: Mapping[str, object]) -> object:
    """Return a copy of the arguments' parts that a hook must not change."""
    group, path = arguments.get("group"), arguments.get("path")
    if isinstance(group, list):
        segments = [[part for trajectory in one.trajectories for part in trajectory.segments] for one in group]
        fixed = [[msgspec.structs.replace(part, trainable=True) for part in parts] for parts in segments]
        return msgspec.json.encode([[episode.rewards for episode in group], fixed])
    if isinstance(path, Path):
        return {file: sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return None
