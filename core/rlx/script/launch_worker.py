"""`launch_worker`: the call by which a launch script gives its components to the run.

    import rlx

    if __name__ == "__main__":
        rlx.launch_worker(dataset=make_dataset, reward_fns=[judge])

Rules:

* `rlx run --config x.toml script.py` runs the script in the launcher, and again in every process that needs one of its
  components: it must give the same ones each time.
* `launch_worker` does not return, and code after it is not run: each process takes the components that it needs and
  continues with its own work. `finally` and `with` blocks around the call end at once.
* `python script.py --config x.toml ...` becomes `rlx run --config x.toml ... script.py`; arguments after a `--` go to
  the script.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NoReturn

from rlx.errors import UsageError, did_you_mean
from rlx.models.plugin import ModelPlugin

Sampler = Callable[..., Iterable[object]] | Iterable[object]
"""Makes an iterable of rows, or is one."""
BatchSampler = Callable[..., Iterable[Iterable[object]]] | Iterable[Iterable[object]]
"""Makes an iterable of batches of rows, or is one."""
CustomLogger = Callable[..., object]
"""Called as `logger(data, step)`."""

_capturing: ContextVar[bool] = ContextVar("rlx_script_is_run_by_rlx", default=False)


@dataclass(frozen=True, kw_only=True)
class ScriptParts:
    """The arguments of `launch_worker`, and the models that the script registered before it."""

    dataset: object = None
    data_packer: object = None
    reward_fns: Sequence[object] | None = None
    filter_reward_fns: Sequence[object] | None = None
    val_dataset: object = None
    val_data_packer: object = None
    val_reward_fns: Sequence[object] | None = None
    sampler: Sampler | None = None
    batch_sampler: BatchSampler | None = None
    custom_logger_fns: Sequence[CustomLogger] | None = None
    hooks: Sequence[object] | None = None
    models: Mapping[str, ModelPlugin] = field(default_factory=dict)
    """`model_type` -> the plugin that `ModelRegistry.register_model` was called with."""

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the parts that the script gave."""
        names = (part.name for part in fields(self))
        return tuple(name for name in names if getattr(self, name) is not None and getattr(self, name) != {})


class ScriptFinished(BaseException):
    """Raised by `launch_worker` in a script that rlx runs."""

    def __init__(self, parts: ScriptParts) -> None:
        super().__init__()
        self.parts = parts


def launch_worker(
    *,
    dataset: object = None,
    data_packer: object = None,
    reward_fns: Sequence[object] | None = None,
    filter_reward_fns: Sequence[object] | None = None,
    val_dataset: object = None,
    val_data_packer: object = None,
    val_reward_fns: Sequence[object] | None = None,
    sampler: Sampler | None = None,
    batch_sampler: BatchSampler | None = None,
    custom_logger_fns: Sequence[CustomLogger] | None = None,
    hooks: Sequence[object] | None = None,
    **unknown: object,
) -> NoReturn:
    """Run with these components. Those that are left out come from the config.

    dataset, val_dataset: a dataset, or a function that makes one; it may take `config`. Training, and held-out rows.
    data_packer, val_data_packer: a `rlx.DataPacker`, or a function that makes one; it may take `config`.
    reward_fns, val_reward_fns: functions, or pairs of a function and its weight. In place of `[[rewards]]`, whose
        entries may still set the weight, timeout and `args` of a function by its name.
    filter_reward_fns: functions, names of rewards, or numbers of `reward_fns`, each also with a weight. They decide
        whether a group is informative.
    sampler: called as `sampler(dataset, num_replicas=1, rank=0, shuffle=..., drop_last=False)`, with those of the
        arguments that it takes; iterated once per epoch for the order of rows, after `set_epoch(epoch)` (from 1) if it
        has that.
    batch_sampler: the same, with `batch_size` and `sampler` offered, too; gives lists of rows, one for each step.
    custom_logger_fns: functions of `(data: dict, step: int)`; called in the launcher after each step and evaluation.
    hooks: objects, classes or modules with functions marked `@rlx.hookimpl`.

    Raises TypeError for an unknown argument.
    """
    if unknown:
        known = [part.name for part in fields(ScriptParts) if part.name != "models"]
        name = next(iter(unknown))
        hint = did_you_mean(name, known)
        raise TypeError(f"launch_worker() has no argument {name!r}.{hint} Its arguments: {', '.join(known)}.")
    if not _capturing.get():
        _exec_rlx_run()
    raise ScriptFinished(
        ScriptParts(
            dataset=dataset,
            data_packer=data_packer,
            reward_fns=reward_fns,
            filter_reward_fns=filter_reward_fns,
            val_dataset=val_dataset,
            val_data_packer=val_data_packer,
            val_reward_fns=val_reward_fns,
            sampler=sampler,
            batch_sampler=batch_sampler,
            custom_logger_fns=custom_logger_fns,
            hooks=hooks,
        )
    )


@contextmanager
def capture_launch() -> Iterator[None]:
    """Make `launch_worker` raise ScriptFinished in this block, in place of starting a run."""
    token = _capturing.set(True)
    try:
        yield
    finally:
        _capturing.reset(token)


def _exec_rlx_run() -> NoReturn:
    """Replace this process, in which Python runs the script, by the `rlx run` command for it."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise UsageError("launch_worker() belongs in a script: rlx run --config x.toml script.py")
    arguments = sys.argv[1:]
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options, own_arguments = arguments[:place], arguments[place + 1 :]
    command = [sys.executable, "-m", "rlx_cli.main", "run", *options, str(Path(script)), *own_arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - itself, with a list
