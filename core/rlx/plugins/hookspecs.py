"""The hooks of a run. An enabled plugin implements the ones that it wants, marked with `@rlx.hookimpl`:

    import rlx

    @rlx.hookimpl
    def rlx_step_end(step, metrics):
        print(step, metrics["reward/mean"])

An implementation may leave out arguments that it doesn't need. All enabled plugins are called, in the order of
`[plugins] enable`; if a hook is marked "first answer", calling stops at the first result that is not None. A hook that
raises ends the run with its plugin's name, unless `[plugins] best_effort` lists the plugin.

The controller and the replicas call their hooks in a thread of their own, one at a time; `rlx_register` is called in
the main thread. The run waits for a hook, and ends if one takes longer than 12 times `run.stall_seconds`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torch import nn

    from rlx.config.schema import Config
    from rlx.episodes import Episode
    from rlx.plugins.registry import Registry

hookspec = pluggy.HookspecMarker("rlx")
hookimpl = pluggy.HookimplMarker("rlx")


@hookspec
def rlx_register(registry: Registry) -> None:
    """Offer components by code: `registry.add("rewards", "my-family/easy", fn)`.

    Process: all, including the launcher and the processes of the reward pool. Frequency: once, before components are
    resolved. Must add the same names in every process.
    """


@hookspec
def rlx_configure(config: Config) -> None:
    """Look at the resolved config; raise `rlx.errors.ConfigError` to refuse it.

    Process: launcher. Frequency: once, before anything is started; also in `rlx check`. The config is frozen.
    """


@hookspec
def rlx_run_start(config: Config, run_dir: Path) -> None:
    """The run starts, or continues after a resume.

    Process: controller. Frequency: once. May write into `run_dir`.
    """


@hookspec
def rlx_run_end(summary: dict[str, Any]) -> None:
    """The run has ended; `summary["status"]` says how.

    Process: controller. Frequency: once. May add keys to `summary` before it is written.
    """


@hookspec
def rlx_worker_start(process: str, config: Config) -> None:
    """A process of the run has started. `process` is its name: `controller`, `rollout-0`, `policy` ...

    Process: all but the launcher; the policy calls it in each rank. Frequency: once per process.
    """


@hookspec
def rlx_model_built(model: nn.Module) -> None:
    """The policy's network is built, sharded and loaded.

    Process: each policy rank. Frequency: once. May change the module in place (freeze parameters, add forward
    hooks); all ranks must do the same.
    """


@hookspec
def rlx_group_scored(group: list[Episode]) -> None:
    """The episodes of one prompt have their rewards, and are about to leave for the controller.

    Process: rollout; RL only. Frequency: once per group, evaluation included. May change `metrics` of episodes and
    `trainable` of segments; tokens, logprobs and rewards are history and stay.
    """


@hookspec
def rlx_step_end(step: int, metrics: dict[str, float]) -> None:
    """Optimizer step `step` is done.

    Process: controller. Frequency: once per step. May add to `metrics`; loggers get the result.
    """


@hookspec
def rlx_weights_synced(version: int, metrics: dict[str, float]) -> None:
    """Every engine has the weights of `version`, and that was verified.

    Process: controller; RL only. Frequency: once per sync, including the first. May add to `metrics`.
    """


@hookspec
def rlx_checkpoint_saved(path: Path, step: int) -> None:
    """A checkpoint is committed under its final name.

    Process: controller. Frequency: once per checkpoint. May copy the folder elsewhere; must not change it.
    """


@hookspec
def rlx_checkpoint_state() -> dict[str, Any] | None:
    """Return what the plugin has to remember: a dict that JSON can hold, for the checkpoint that is being made.

    Process: controller. Frequency: once per checkpoint, between two steps; training waits for it. None stores nothing.
    The dict must come back from JSON as it was: text, numbers, lists and dicts with text as keys. A plugin that has
    this hook has `rlx_restore_state`, too.
    """


@hookspec
def rlx_restore_state(state: dict[str, Any]) -> None:
    """Take back the state that the plugin returned for the checkpoint from which the run is resumed.

    Process: controller. Frequency: once in a resumed run, between `rlx_run_start` and the first step, and each time
    that a run goes back to a checkpoint because its policy died; if the checkpoint holds a state of this plugin.
    """


@hookspec
def rlx_evaluated(step: int, metrics: dict[str, float]) -> None:
    """An evaluation is complete.

    Process: controller. Frequency: once an evaluation. May add to `metrics`.
    """


@hookspec(firstresult=True)
def rlx_should_stop(step: int, metrics: dict[str, float]) -> bool | str | None:
    """Decide whether the run ends after this step: return True, or the reason as text. First answer.

    Process: controller. Frequency: once per step, after `rlx_step_end`. Must not change anything. False is an
    answer, too: it keeps later plugins from being asked. None passes the question on.
    """


@hookspec(firstresult=True)
def rlx_rollout_failed(error: str) -> str | None:
    """A group failed. Answer `"drop"` to continue without it (it is counted), `"fail"` to end the run.

    First answer.

    Process: controller; RL only. Frequency: once per failed group. None leaves it to the reward's `on_error`.
    """
