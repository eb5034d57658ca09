"""Contract suites: one for each kind of plugin. They test a plugin through the code that a run uses.

Files:

* contract.py: broken rules, the error that lists them, and the boundary around plugin code.
* reward.py, reward_calls.py: `check_reward`.
* dataset.py: `check_dataset`.
* packer.py: `check_packer`.
* algorithm.py, loss.py: `check_algorithm`.
* hooks.py, hook_calls.py: `check_hooks`.
* logger.py: `check_logger`.
* launcher.py: `check_launcher`.
* model_plugin.py, engine_probe.py: `check_model_plugin`, with a vLLM engine in a process of its own.

Rules:

* Each suite has RULES: the name and the sentence of each rule. `python docs/build.py` writes them into the docs.
* A suite reports all broken rules at once, each with an observation and a suggestion.
"""

from __future__ import annotations
