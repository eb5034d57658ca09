"""The process that makes a run's launcher and loggers as a trial: `python -m rlx.preflight.trials.maker`.

Rules:

* It reads boot data from stdin, and writes a line of JSON to stdout before and after it makes an object: the parent
  sees which one ended the process or takes too long. Plugins print to stderr.
* Loggers write into `boot.run_dir`, a folder that the parent removes.
* Nothing is closed: a logger would report the end of a run that never was.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

from rlx.boot import decode_boot, read_blob
from rlx.errors import UsageError
from rlx.launchers.make import make_launcher
from rlx.loggers.dispatch import make_logger


def main() -> None:
    """Make the objects of the boot data."""
    from rlx.script.plugins import open_plugins

    boot = decode_boot(read_blob(0))
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        config, plugins, run_dir = boot.load_config(), open_plugins(boot), Path(boot.run_dir)
        makers: dict[str, Callable[[], object]] = {}
        for name in plugins.names("launchers"):
            makers[f"launchers/{name}"] = partial(make_launcher, config, plugins)
        for name in plugins.names("loggers"):
            makers[f"loggers/{name}"] = partial(make_logger, name, config, plugins, run_dir)
        for name, make in makers.items():
            _write(output, name=name)
            try:
                make()
            except UsageError as error:
                _write(output, error=str(error))
    except UsageError as error:  # the plugins can't be opened
        _write(output, name="")
        _write(output, error=str(error))
    _write(output, name=None)
    sys.stderr.flush()
    os._exit(0)  # without the threads and exit handlers that loggers have started


def _write(output: TextIO, **line: object) -> None:
    output.write(json.dumps(line) + "\n")
    output.flush()


if __name__ == "__main__":
    main()
