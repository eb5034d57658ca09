"""A replica: the process that samples completions with a vLLM engine and scores them.

* `process.py`: the entry point of the process.
* `replica.py`: connects the engine, the reward pool and the sampler to the controller.
* `sampler.py`: turns leases into finished groups.
* `engine.py`: one vLLM engine: sampling, scoring, weight updates.
* `requests.py`: the requests of an engine: those that vLLM has, and those that wait for a place.
* `engine_arguments.py`: derives vLLM's arguments and environment from the config.
* `prompts.py`: turns dataset rows into token ids.
* `completion.py`: one sampled completion.
* `groups.py`: builds the messages for finished and failed groups.

Rule: every lease ends in exactly one message, `GroupDone` or `GroupFailed`, unless the whole replica fails.
"""

from __future__ import annotations
