"""Preflight: checks a run before a process is started, for `rlx check` and at the start of `rlx run`.

* load.py: loads a run from a config file and a launch script, or from an earlier run's directory.
* plan.py: `prepare`, the one pass through all checks, and its result, `RunPlan`.
* checks/: config, plugins, model, memory and machine, and the problems that all checks collect.
* engine/: the engines: vLLM's arguments, head sizes, vLLM's own config objects.
* trials/: plugins do a little of what they do in a run: rows are tokenised, rewards called.
* epochs.py: `run.epochs` in steps.
* describe.py: the options of a component, for `rlx plugins show` and the config's JSON Schema.

Rules:

* Imports go one way: plan.py, engine/, trials/, checks/.
* Cheap checks come before costly ones.
* Nothing of the run is started, and nothing is written. Processes that help to check end with it.
* Each failure is a UsageError (exit code 2) that names the key or the plugin. All are listed at the end.
"""
