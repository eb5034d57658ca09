"""Make the launcher and the loggers of a run as a trial, in a process of its own (`maker.py`).

A constructor may do anything: write files, print, start threads, reach out to a server, end the process. So the process
has a run directory that is removed, its output is kept from the terminal, and it is killed at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import msgspec

from rlx.boot import Boot, PluginRecord, encode_boot, frame_blob
from rlx.errors import PluginError
from rlx.plugins.records import owner
from rlx.preflight.checks.problems import Problems
from rlx.preflight.trials.progress import Progress

MAKING_SECONDS = 60.0
"""Launcher and loggers are made within this time."""
PRINTED_LINES = 5
"""Lines of output that are shown if the process ended."""

PLACES = {"launchers": "[run] launcher", "loggers": "[run] loggers"}
"""Kind -> place in the config."""


class ObjectTrial:
    """Makes the launcher and the loggers. `with` starts the process in the background, and ends it.

    boot: with the records of the objects to make. Those of rlx itself are left out.
    """

    def __init__(self, boot: Boot, problems: Problems, progress: Progress) -> None:
        self._undo = ExitStack()
        kept = [record for record in boot.plugins if record.kind in PLACES and not _is_known(record)]
        hooks = [record for record in boot.plugins if record.kind == "hooks"]
        self._boot = msgspec.structs.replace(boot, plugins=[*kept, *hooks])
        self._problems = problems
        self._progress = progress
        self._records = {f"{record.kind}/{record.name}": record for record in kept}

    def __enter__(self) -> Self:
        self._folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="rlx-check-")))
        if self._records:
            self._process = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._records:
            self._kill()
        self._undo.close()

    def finish(self) -> None:
        """Wait until the objects are made. One that can't be is a problem."""
        waiting = dict(self._records)
        while waiting:
            names = ", ".join(owner(record) for record in waiting.values())
            with self._progress.doing(f"making {names}"):
                culprit = self._finish_process()
            if culprit is None:
                return
            # The others are made without it.
            waiting = {name: record for name, record in waiting.items() if name != culprit}
            others = [record for record in self._boot.plugins if f"{record.kind}/{record.name}" != culprit]
            self._boot = msgspec.structs.replace(self._boot, plugins=others)
            self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        run_dir = Path(tempfile.mkdtemp(dir=self._folder))
        files = {name: self._folder / f"{run_dir.name}.{name}" for name in ("stdin", "stdout", "stderr")}
        files["stdin"].write_bytes(frame_blob(encode_boot(msgspec.structs.replace(self._boot, run_dir=str(run_dir)))))
        self._stdout, self._stderr = files["stdout"], files["stderr"]
        with files["stdin"].open("rb") as stdin, self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            command = [sys.executable, "-m", "rlx.preflight.trials.maker"]
            return subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, start_new_session=True)

    def _finish_process(self) -> str | None:
        """Wait for the process, and add the problems that it wrote.

        Returns the name of the object that ended it or took too long, if one did.
        """
        try:
            code = self._process.wait(MAKING_SECONDS)
            ended = f"ended its process with exit code {code}" if code >= 0 else f"ended its process by signal {-code}"
        except subprocess.TimeoutExpired:
            ended = f"took more than {MAKING_SECONDS:g} s"
        self._kill()  # and what it has started
        record: PluginRecord | None = None
        name: str | None = ""
        for line in map(json.loads, self._stdout.read_text().splitlines()):
            if "name" in line:
                name, record = line["name"], self._records.get(line["name"] or "")
            else:
                self._problems.add(PluginError(line["error"]), PLACES[record.kind] if record else "")
        if name is None:
            return None
        printed = self._stderr.read_text(errors="replace").splitlines()[-PRINTED_LINES:]
        subject = f"{owner(record)}: its constructor" if record is not None else "Opening the plugins"
        text = "\n".join([f"{subject} {ended}.", *(["It printed:", *printed] if printed else [])])
        self._problems.add(PluginError(text), PLACES[record.kind] if record else "")
        return name or None

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _is_known(record: PluginRecord) -> bool:
    """Return whether a component is rlx's own, and can fail only if the package is missing that it writes with."""
    needs = {"rlx.loggers.tensorboard:TensorBoardLogger": "tensorboard"}.get(record.target)
    return record.target.startswith("rlx.") and (needs is None or find_spec(needs) is not None)
