"""Preflight: checks a run before a process is started, for `rlx check` and at the start of `rlx run`.

* load.py: loads a run from a config file and a launch script, or from an earlier run's directory.
* plan.py: `prepare`, the one pass through all checks, and its result, `RunPlan`.
* plugins.py: the plugins that a config names: resolved, imported, their `args` checked.
* problems.py: collects the problems that the checks find.
* check.py: checks of the machine, the parallel layout and hooks.
* trials/: plugins do a little of what they do in a run: rows are tokenised, rewards called.
* model.py, model_facts.py: the model: what is known without building it, and whether its plugin can build it.
* memory.py: estimates of the memory that a run needs.
* machine.py: devices, the disk, and whether run directories can be made.
* engine/: the engines: vLLM's arguments, head sizes, vLLM's own config objects.
* epochs.py: `run.epochs` in steps.
* unusual.py: notes on settings that are probably slips.
* describe.py: the options of a component, for `rlx plugins show` and the config's JSON Schema.

Rules:

* Cheap checks come before costly ones.
* Nothing of the run is started, and nothing is written. Processes that help to check end with it.
* Each failure is a UsageError (exit code 2) that names the key or the plugin. All are listed at the end.
"""
