"""Opens the directory of a run that has ended: its config as it was resolved, and its checkpoints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlx.config.schema import Config
from rlx.controller.records import checkpoint
from rlx.controller.records.best import Best
from rlx.errors import RunError, UsageError
from rlx.launch.run_dir import locked
from rlx.names import CHECKPOINTS, CONFIG_FILE, ENVIRONMENT_FILE, SUMMARY_FILE
from rlx.preflight.load import LoadedRun, load_earlier

NEWEST, BEST = "newest", "best"


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended, however it did."""

    path: Path
    loaded: LoadedRun

    @property
    def config(self) -> Config:
        return self.loaded.config

    def checkpoint(self, step: str, on_damaged: Callable[[str], None] = lambda _: None) -> Path:
        """Return the folder of a committed checkpoint. `step`: a number of steps, `newest` or `best`.

        The newest one is the newest sound one: a sentence about each damaged one is passed to `on_damaged`. Raises
        UsageError if there is none of that step, with those that there are, or if it is damaged.
        """
        damaged: list[str] = []

        def skip(folder: Path, problems: list[str]) -> None:
            damaged.append(f"{CHECKPOINTS}/{folder.name} is damaged: {'; '.join(problems)}")
            on_damaged(damaged[-1])

        if step == NEWEST and (found := checkpoint.newest_sound(self.path, skip)) is not None:
            return found
        if damaged:
            raise UsageError(f"{self.path} has no sound checkpoint.\n" + "\n".join(damaged))
        committed = {int(path.name.removeprefix("step_")): path for path in checkpoint.committed(self.path)}
        if not committed:
            raise UsageError(
                f"{self.path} has no checkpoint: the run ended before its first one. "
                "[checkpoint] every = N saves one every N steps; a run that is stopped by one Ctrl-C saves one, too."
            )
        version = self._version(step, committed)
        if version not in committed:
            known = ", ".join(map(str, committed))
            raise UsageError(
                f"{self.path} has no checkpoint of step {version}. It has those of: {known}. "
                "[checkpoint] every and keep say which ones are made and kept."
            )
        if problems := checkpoint.verify_checkpoint(committed[version]):
            skip(committed[version], problems)
            raise UsageError(f"{damaged[0]}. Without --step, the newest sound one is taken.")
        return committed[version]

    def best(self) -> int | None:
        """Return the step of the best evaluated version; None if the run does not look for it or has none yet."""
        evaluations: dict[float, dict[str, float]] = {}
        for path in checkpoint.committed(self.path):
            with suppress(RunError):  # damaged: `checkpoint` says so if it is asked for this one
                evaluations |= {found["step"]: found for found in checkpoint.load(path).evaluations}
        try:
            summary: dict[str, list[dict[str, float]]] = json.loads((self.path / SUMMARY_FILE).read_text())
        except FileNotFoundError:  # the run was killed
            summary = {}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / SUMMARY_FILE} cannot be read: {error}") from error
        # An evaluation may have ended after the newest checkpoint.
        evaluations |= {found["step"]: found for found in summary.get("evaluations", [])}
        in_order = [evaluations[version] for version in sorted(evaluations)]
        return Best(self.config.checkpoint.best, in_order).version

    def _version(self, step: str, committed: dict[int, Path]) -> int:
        if step == NEWEST:
            return max(committed)
        if step.isdecimal():
            return int(step)
        if step != BEST:
            raise UsageError(f"--step {step}: write a number of steps, {NEWEST!r} or {BEST!r}.")
        if self.config.checkpoint.best is None:
            raise UsageError(
                f"--step {BEST}: the run of {self.path} does not look for a best version. "
                "A config with [checkpoint.best] does."
            )
        found = self.best()
        if found is None:
            raise UsageError(f"--step {BEST}: the run of {self.path} has not evaluated a version that it trained.")
        return found


@contextmanager
def ended_run(path: Path) -> Iterator[EndedRun]:
    """Open the directory of a run, and keep `rlx run --resume` away from it for as long.

    Paths in its config are those of the folder where `rlx run` was called, so the block runs there; in the current one
    if that does not exist here. Raises UsageError if it isn't a run directory, or if the run is still going on.
    """
    path = path.absolute()
    if not (path / CONFIG_FILE).is_file():
        raise UsageError(f"{path} isn't the directory of a run: it has no {CONFIG_FILE}.{_hint(path)}")
    try:
        folder = Path(json.loads((path / ENVIRONMENT_FILE).read_text())["folder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path / ENVIRONMENT_FILE} does not say where the run was started: {error!r}") from error
    with locked(path):
        before = Path.cwd()
        os.chdir(folder if folder.is_dir() else before)
        try:
            yield EndedRun(path, load_earlier(path))
        finally:
            os.chdir(before)


def _hint(path: Path) -> str:
    """Return advice if `path` is inside of a run directory."""
    if path.parent.name == CHECKPOINTS and (path.parent.parent / CONFIG_FILE).is_file():
        step = path.name.removeprefix("step_").lstrip("0") or "0"
        return f" It is a checkpoint of the run {path.parent.parent}: name that, with --step {step}."
    return " `rlx run` prints the directory of a run when it ends."
