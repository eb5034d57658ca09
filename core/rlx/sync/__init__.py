"""Weight sync: moves the policy's weights into every vLLM engine, and compares log-probabilities afterwards.

* `transfer_group`: the process group of a transfer, how to join it, and its store
* `buckets`: packs tensors into flat buffers, sends and receives them, and checks each header
* `sender`: the policy's side
* `receiver`: the engine's side, a weight-transfer engine of vLLM
* `vllm_reload`: additions to vLLM's layerwise reload (incomplete layers, tied weights, expert kernels)
* `vllm_engine`: the entry point that every vLLM process calls at its start
* `worker_extension`: methods added to vLLM's worker class
* `logprob_diff`: mean difference between the policy's log-probabilities and an engine's

Rules:

* `receiver` and `vllm_reload` are imported inside vLLM workers only; no other module here imports vLLM at the top.
* Nothing here knows the controller: `rlx.controller.modes.weight_sync` decides when to sync and what to verify.
"""
