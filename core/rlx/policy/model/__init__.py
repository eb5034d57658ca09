"""The model: from a micro-batch to log-probabilities.

Files:
    forward.py          PolicyModel, the root module that FSDP wraps
    adapters.py         transformers models, `rlx.BaseModel` and other modules behind one interface
    logprobs.py         log-probabilities of given tokens, in chunks of the vocabulary
    self_check.py       checks on the model itself that packed rows and chunked logits are right for it
    parallel_checks.py  refuses `[policy.parallel]` settings that a model doesn't support
    built.py            Built: a sharded network, and how its tensors map to its checkpoint and stages

Rules:

* Only `adapters.py` depends on a model's origin.
* Claims of a config or a signature are verified on the model before rlx relies on them.
"""

from __future__ import annotations
