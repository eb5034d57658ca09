"""Small replacements for the objects that a plugin is given in a run.

Files:

* tokenizer.py: a tokenizer with one token per character, without transformers.
* models.py: tiny Hugging Face models, and the same tokenizer for transformers.
* config.py: a config of defaults.
* episodes.py: a sampled and scored episode.
* hook_arguments.py: arguments for every hook.
* processes.py: processes for a launcher to start.

Rule: the suites import from here, and nothing here imports a suite. Users import `rlx.testing.tokenizer` and
`rlx.testing.models`.
"""

from __future__ import annotations
