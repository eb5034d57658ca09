"""Launch scripts: Python files that give a run its dataset, rewards and other components as objects.

* launch_worker.py: `launch_worker`, which a script calls with its components.
* runner.py: finds a script and runs it, at most once per process.
* components.py: the components of a script, under the names by which the config knows them.
* merge_config.py: merges a script's components into the config.
* plugins.py: a script's components as plugins of the run.
* row_order.py: the order of rows given by a script's sampler.

Rules:

* A script runs in the launcher, and again in every process that needs one of its components. It must give the same
  components each time.
* Errors of a script are reported as the script's own.
"""
