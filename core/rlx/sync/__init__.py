"""Weight sync: moves the policy's weights into every vLLM engine, and compares log-probabilities afterwards.

Files:
    transfer_group.py    the process group of a transfer, and the store at which its members meet
    buckets.py           packs tensors into flat buffers, sends and receives them, and checks each header
    sender.py            the policy's side
    receiver.py          the engine's side, a weight-transfer engine of vLLM
    digests.py           64-bit digests of tensors
    encoded_digests.py   digests in messages
    placement.py         where vLLM's loaders put each element, learned from their copies
    loaded.py            compares what an engine worker's model holds with what it received
    vllm_reload.py       additions to vLLM's layerwise reload (incomplete layers, tied weights, expert kernels)
    vllm_engine.py       the entry point that every vLLM process calls at its start
    worker_extension.py  methods added to vLLM's worker class
    logprob_diff.py      mean difference between the policy's log-probabilities and an engine's

Rules:

* Only `receiver.py`, `loaded.py` and `vllm_reload.py` import vLLM at the top; only vLLM's workers import them.
* Nothing here depends on the controller: `rlx.controller.modes.weight_sync` decides when to sync and what to verify.
"""
