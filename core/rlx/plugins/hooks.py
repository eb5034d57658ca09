"""The enabled hooks plugins of one process: pluggy, with an owner for every failure.

Rules:

* Call order is the order of `[plugins] enable` (pluggy calls the last registered first, so registration is reversed).
* A misspelt hook is an error, and so is a plugin that implements none, or that lacks the marker.
* A hook that raises is a HookError with its plugin's name. Those of `best_effort` are logged and counted instead.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pluggy

from rlx.boot import PluginRecord
from rlx.config.sections.plugins import PluginsConfig
from rlx.errors import ConfigError, HookError, PluginError, RlxError, attribute, described, did_you_mean
from rlx.plugins import hookspecs
from rlx.plugins.options import make
from rlx.plugins.records import owner
from rlx.plugins.timings import CallTimings, HookFailures

log = logging.getLogger(__name__)

_ADVICE = "Correct the plugin, leave it out of [plugins] enable, or list it in [plugins] best_effort."

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("rlx_"))
"""Every hook that rlx calls."""


_STATE_HOOKS = {"rlx_checkpoint_state", "rlx_restore_state"}


class Implementations:
    """The guarded hook implementations of one plugin, registered with pluggy in the plugin's place."""


@dataclass(frozen=True)
class RunningHook:
    """A hook that is being called."""

    title: str
    """Its plugin's owner and its name; also the name of its frame in stack dumps."""
    began: float
    """By `time.monotonic`."""


class Hooks:
    """The enabled hooks plugins of one process."""

    def __init__(
        self, plugins: Sequence[tuple[PluginRecord, object]] = (), section: PluginsConfig | None = None
    ) -> None:
        """Make the plugins that are classes from their options, and register all of them.

        section: `[plugins]` of the config. Raises ConfigError if options do not fit, PluginError for other failures.
        """
        section = PluginsConfig() if section is None else section
        self.failures = HookFailures()
        """Failures of the plugins in `best_effort`."""
        self.timings = CallTimings()
        self._running: RunningHook | None = None
        self._owners = {record.name: owner(record) for record, _ in plugins}
        self._best_effort = frozenset(section.best_effort)
        self._manager = pluggy.PluginManager("rlx")
        self._manager.add_hookspecs(hookspecs)
        options = {hook.name: hook.args for hook in section.hooks}
        instances = [(record, _instance(record, plugin, options.get(record.name, {}))) for record, plugin in plugins]
        for record, plugin in reversed(instances):
            self._register(record, plugin)

    @property
    def running(self) -> RunningHook | None:
        """The hook that runs at this moment."""
        return self._running

    @property
    def relay(self) -> pluggy.HookRelay:
        """Call hooks on this: `relay.rlx_step_end(step=..., metrics=...)`."""
        return self._manager.hook

    def implementing(self, hook: str) -> dict[str, str]:
        """Return the plugins that implement a hook, in the order of the config: name -> owner."""
        callers = reversed(getattr(self._manager.hook, hook).get_hookimpls())
        return {caller.plugin_name: self._owners[caller.plugin_name] for caller in callers}

    def only(self, plugin: str, hook: str) -> pluggy.HookCaller:
        """Return one hook of one plugin; `plugin` is its name in `[plugins] enable`."""
        others = [other for name, other in self._manager.list_name_plugin() if name != plugin and other is not None]
        return self._manager.subset_hook_caller(hook, others)

    def _register(self, record: PluginRecord, plugin: object) -> None:
        markers = {name: marker for name in dir(plugin) if (marker := _marker(plugin, name)) is not None}
        unmarked = [name for name in HOOKS if callable(getattr(plugin, name, None)) and name not in markers]
        if unmarked:
            raise PluginError(
                f"{owner(record)}: {', '.join(unmarked)} lacks the marker `@rlx.hookimpl` and would not be called."
            )
        if not markers:
            raise PluginError(
                f"{owner(record)} implements no hook. Mark its functions with `@rlx.hookimpl`: {', '.join(HOOKS)}."
            )
        if len(halves := _STATE_HOOKS & {str(marker.get("specname") or name) for name, marker in markers.items()}) == 1:
            (missing,) = _STATE_HOOKS - halves
            raise PluginError(
                f"{owner(record)} implements {halves.pop()} without {missing}: its state would be lost at a resume."
            )
        guarded = Implementations()
        for name, marker in markers.items():
            _check_signature(record, plugin, name, marker)
            setattr(guarded, name, self._guard(record, name, getattr(plugin, name)))
        try:
            self._manager.register(guarded, name=record.name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"{owner(record)}: {error}") from error

    def _guard(self, record: PluginRecord, name: str, hook: Callable[..., object]) -> Callable[..., object]:
        title = f"{owner(record)}: its hook {name}"

        def guarded(*args: object) -> object:
            began = time.perf_counter()
            self._running = RunningHook(title, time.monotonic())
            try:
                with attribute(owner(record), f"its hook {name}", as_=HookError, advice=_ADVICE):
                    result = hook(*args)
                    if name == "rlx_checkpoint_state":
                        _check_state(owner(record), result)
                    return result
            except RlxError as error:
                if record.name not in self._best_effort:
                    raise
                self.failures.merge({record.name: 1})
                log.warning("best effort: %s", error)
                return None
            finally:
                self._running = None
                self.timings.add(f"hook/{record.name}/{name}", time.perf_counter() - began)

        # faulthandler and traceback show the name of a frame's code: a stack dump then says whose hook it stands in.
        guarded.__code__ = guarded.__code__.replace(co_name=title)
        return functools.wraps(hook)(guarded)


def _check_state(owner: str, state: object) -> None:
    """Raise HookError unless JSON gives `state` back as it is."""
    try:
        if state is None or (isinstance(state, dict) and json.loads(json.dumps(state, allow_nan=False)) == state):
            return
        why = ""
    except (TypeError, ValueError, RecursionError) as error:
        why = f" ({described(error)})"
    raise HookError(
        f"{owner}: its hook rlx_checkpoint_state returned {state!r:.80}, which JSON does not give back as it is{why}. "
        "Return a dict of text, finite numbers, lists and dicts, with text as keys."
    )


def _instance(record: PluginRecord, plugin: object, args: Mapping[str, object]) -> object:
    where = "[plugins] enable, args"
    if inspect.isclass(plugin):
        return make(plugin, args, where=where, owner=owner(record))
    if args:
        thing = "a module" if inspect.ismodule(plugin) else "an object"
        raise ConfigError(f"{where}: {owner(record)} is {thing}, not a class: it takes no args.")
    return plugin


def _marker(plugin: object, name: str) -> Mapping[str, object] | None:
    """Return the options that `@hookimpl` stored on a function; None if the function is not marked."""
    found = inspect.getattr_static(plugin, name, None)
    options = getattr(getattr(found, "__func__", found), "rlx_impl", None)
    return options if isinstance(options, dict) else None


def _check_signature(record: PluginRecord, plugin: object, name: str, marker: Mapping[str, object]) -> None:
    hook = str(marker.get("specname") or name)
    if hook not in HOOKS:
        known = ", ".join(HOOKS)
        raise PluginError(f"{owner(record)}: unknown hook {hook!r}.{did_you_mean(hook, HOOKS)} Hooks: {known}.")
    if marker.get("wrapper") or marker.get("hookwrapper"):
        raise PluginError(f"{owner(record)}: {name} is a hook wrapper; rlx calls plain hooks only.")
    passed = inspect.signature(getattr(hookspecs, hook)).parameters
    for parameter in inspect.signature(getattr(plugin, name)).parameters.values():
        # pluggy passes, by position, the parameters that have no default, and silently leaves out the others.
        required = parameter.default is parameter.empty
        if parameter.name in passed:
            is_passed = required and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        else:
            is_passed = not required or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not is_passed:
            raise PluginError(
                f"{owner(record)}: {name} takes {str(parameter)!r} ({parameter.kind.description}), which is never "
                f"passed.{did_you_mean(parameter.name, passed)} Its arguments, to take without defaults: "
                f"{', '.join(passed)}."
            )
