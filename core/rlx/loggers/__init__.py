"""Loggers: the destinations of a run's metrics.

* base.py: the contract of a logger plugin (`Logger`, `LiveLogger`, `SampleLogger`, `RunStatus`, `Sample`).
* dispatch.py: calls the run's loggers, each in a thread of its own, and records which of them failed.
* console.py, jsonl.py, tensorboard.py: the built-in loggers.
* live.py: the console's display on a terminal; frame.py: the lines of one picture of it.
* text.py: metrics as text, for the console.

Rules:

* Loggers run in the launcher's process and get everything from the controller.
* A logger that raises is not called again, and fails the run.
"""

from __future__ import annotations
