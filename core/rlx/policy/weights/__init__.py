"""Reads and writes the policy's weights: Hugging Face folders, the policy's own checkpoints, and weight sync.

Files:
    hf_folder.py     finds a model's folder, and reads its config and safetensors files
    load.py          loads a folder's tensors into a sharded network, or checks that they fit
    full_weights.py  gathers full tensors under Hugging Face names, one decoder layer at a time
    export.py        writes the policy as a Hugging Face folder
    saved_weights.py the weights of a checkpoint, read without the run's ranks
    checkpoint.py    restores sharded weights, optimizer moments and random state
    staging.py       copies a rank's share of these into host memory
    writer.py        writes the copies in the background

Rule: all tensors are in safetensors files, never in pickles.
"""
