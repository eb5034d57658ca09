"""Checks of a run that need no trial of its plugins and no engine, and what the other checks build on.

* problems.py: collects the problems that the checks find.
* plugins.py: the plugins that a config names: resolved, imported, their `args` checked.
* model.py, model_facts.py: the model: what is known without building it, and whether its plugin can build it.
* memory.py: estimates of the memory that a run needs.
* machine.py: devices, the disk, and whether run directories can be made.
* check.py: the port, the engine's parallel layout, quantised weights, and hooks.
* unusual.py: notes on settings that are probably slips.

Rules:

* Nothing here imports `rlx.preflight.engine` or `rlx.preflight.trials`, which are built on these checks.
* A check raises UsageError for what it refuses. Whether the run's other checks go on is up to `Problems`.
"""
