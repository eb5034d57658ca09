"""`launch_worker`: what a launch script hands to the run.

    import rlx

    if __name__ == "__main__":
        rlx.launch_worker(dataset=make_dataset, reward_fns=[judge])

The rules of this part:

* `rlx run --config x.toml script.py` runs the script in the launcher, and again in every process that needs something
  of it: it must hand over the same things each time.
* Each process takes what it needs and goes its own way: `launch_worker` does not return, and what a script has after it
  is not run. `finally` and `with` blocks around it end at once.
* `python script.py --config x.toml ...` becomes `rlx run --config x.toml ... script.py`; what follows a `--` goes to
  the script.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from rlx.errors import UsageError, did_you_mean
from rlx.models.plugin import ModelPlugin

_listening: ContextVar[bool] = ContextVar("rlx_script_is_run_by_rlx", default=False)


@dataclass(frozen=True, kw_only=True)
class ScriptParts:
    """The arguments of `launch_worker`, and what the script registered before it."""

    dataset: Any = None
    data_packer: Any = None
    reward_fns: Sequence[Any] | None = None
    filter_reward_fns: Sequence[Any] | None = None
    val_dataset: Any = None
    val_data_packer: Any = None
    val_reward_fns: Sequence[Any] | None = None
    sampler: Callable[..., Any] | None = None
    batch_sampler: Callable[..., Any] | None = None
    custom_logger_fns: Sequence[Callable[..., Any]] | None = None
    hooks: Sequence[Any] | None = None
    models: Mapping[str, ModelPlugin] = field(default_factory=dict)
    """`model_type` -> what `ModelRegistry.register_model` was given."""

    @property
    def given(self) -> tuple[str, ...]:
        """The names of what is there."""
        names = (part.name for part in fields(self))
        return tuple(name for name in names if getattr(self, name) is not None and getattr(self, name) != {})


class ScriptFinished(BaseException):
    """Raised by `launch_worker` where rlx itself runs the script."""

    def __init__(self, parts: ScriptParts) -> None:
        super().__init__()
        self.parts = parts


def launch_worker(
    *,
    dataset: Any = None,
    data_packer: Any = None,
    reward_fns: Sequence[Any] | None = None,
    filter_reward_fns: Sequence[Any] | None = None,
    val_dataset: Any = None,
    val_data_packer: Any = None,
    val_reward_fns: Sequence[Any] | None = None,
    sampler: Callable[..., Any] | None = None,
    batch_sampler: Callable[..., Any] | None = None,
    custom_logger_fns: Sequence[Callable[..., Any]] | None = None,
    hooks: Sequence[Any] | None = None,
    **unknown: Any,
) -> NoReturn:
    """Run with these components. What is left out comes from the config.

    dataset, val_dataset: a dataset, or a function that makes one; it may take `config`. Training, and held-out rows.
    data_packer, val_data_packer: a `rlx.DataPacker`, or a function that makes one; it may take `config`.
    reward_fns, val_reward_fns: functions, or pairs of a function and its weight. In place of `[[rewards]]`, whose
        entries may still set the weight, timeout and `args` of a function by its name.
    filter_reward_fns: functions, names of rewards, or numbers of `reward_fns`, each also with a weight: what decides
        whether a group is informative.
    sampler: called as `sampler(dataset, num_replicas=1, rank=0, shuffle=..., drop_last=False)`, with what it takes of
        these; iterated once an epoch for the order of rows, after `set_epoch(epoch)` where it has that (from 1).
    batch_sampler: the same, with `batch_size` and `sampler` offered, too; gives lists of rows, one for each step.
    custom_logger_fns: functions of `(data: dict, step: int)`; called in the launcher after each step and evaluation.
    hooks: objects, classes or modules with functions marked `@rlx.hookimpl`.

    Raises TypeError for an argument that does not exist.
    """
    if unknown:
        known = [part.name for part in fields(ScriptParts) if part.name != "models"]
        name = next(iter(unknown))
        hint = did_you_mean(name, known)
        raise TypeError(f"launch_worker() has no argument {name!r}.{hint} Its arguments: {', '.join(known)}.")
    if not _listening.get():
        _become_command()
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
    """`launch_worker` hands its parts to whoever runs the script in here."""
    token = _listening.set(True)
    try:
        yield
    finally:
        _listening.reset(token)


def _become_command() -> NoReturn:
    """The script was started by Python itself: go on as the command that would have run it."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        raise UsageError("launch_worker() belongs in a script: rlx run --config x.toml script.py")
    options, arguments = _split(sys.argv[1:])
    command = [sys.executable, "-m", "rlx_cli.main", "run", *options, str(Path(script)), *arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, command)  # noqa: S606 - itself, with a list


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Options of `rlx run`, and the script's own arguments."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]
