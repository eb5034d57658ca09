"""A replica: the process that samples completions with a vLLM engine and scores them.

Files:

* process.py: the entry point of the process.
* replica.py: connects engine, reward pool and sampler with the controller.
* sampler.py: turns leases into finished groups.
* engine.py: one vLLM engine: sampling, scoring, weight updates.
* engine_arguments.py: vLLM's arguments and environment, from the config.
* prompts.py: dataset rows as token ids.
* completion.py: one sampled completion.
* groups.py: the messages for finished and failed groups.

Rule: a lease always ends in one message, `GroupDone` or `GroupFailed`, unless the whole replica fails.
"""

from __future__ import annotations
