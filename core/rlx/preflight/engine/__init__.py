"""Checks of the vLLM engines before one is started.

* check.py: all checks of the engines.
* arguments.py: names and types of `[rollout.vllm]`, and the arguments that rlx can't work with.
* head_sizes.py: sizes of attention heads that the engine's attention can compute with.
* generation.py: what the model's generation_config.json asks for and rlx doesn't do.
* dry_config.py, dry_config_child.py: vLLM's own config objects, made in a process of their own.

Importing vLLM takes seconds, so this process never does: what it needs of vLLM's source it reads as text, and the
process that imports vLLM is started only where it can find something that the other checks don't (see dry_config.py).
"""

from __future__ import annotations
