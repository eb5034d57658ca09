"""Processes for a launcher to start: `python -m rlx.proc` runs a function of this module as `module:function`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlx.boot import Boot

CODE = 7
LINE = "a line of its log"


def exits(boot: Boot) -> int:
    """Write a line to stdout, and the size of the config and what is left of stdin to a file; exit with CODE."""
    print(LINE)  # noqa: T201 - output of this process is what a test looks for
    report = f"{len(str(boot.config))} {sys.stdin.read()!r}"
    Path(boot.run_dir, boot.name).write_text(report)
    return CODE


def dies(_boot: Boot) -> None:
    """End by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def waits(boot: Boot) -> None:
    """Start a process that ignores SIGTERM, write both process ids to a file, and wait until something ends both."""
    ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"{ignore}; print('ready', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    child.stdout.readline()
    written = Path(boot.run_dir, f"{boot.name}.part")
    written.write_text(f"{os.getpid()} {child.pid}")
    written.rename(Path(boot.run_dir, boot.name))
    time.sleep(600)
