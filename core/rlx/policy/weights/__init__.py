"""Reads and writes the policy's weights: Hugging Face folders, the policy's own checkpoints, and weight sync.

* `hf_folder`: finds a model's folder, and reads its config and safetensors files
* `load`: loads a folder's tensors into a sharded network, or checks that they fit
* `full_weights`: gathers full tensors under Hugging Face names, one decoder layer at a time
* `export`: writes the policy as a Hugging Face folder
* `checkpoint`: saves and restores sharded weights, optimizer moments and random state

Rule: no file of weights contains pickle; all tensors are in safetensors files.
"""
