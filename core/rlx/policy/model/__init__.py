"""The model: from a micro-batch to log-probabilities.

Files:
    forward.py          PolicyModel, the root module that FSDP wraps
    adapters.py         transformers models, `rlx.BaseModel` and other modules behind one interface
    logprobs.py         log-probabilities of given tokens, in chunks of the vocabulary
    self_check.py       measures whether packed rows and chunked logits are right for a model
    parallel_checks.py  refuses `[policy.parallel]` settings that a model doesn't support
    built.py            a network that was built and sharded, with the facts of its checkpoint

Rules:

* Only `adapters.py` knows who made a model.
* Claims of a config or a signature are measured on the model before rlx relies on them.
"""

from __future__ import annotations
