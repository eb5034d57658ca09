"""Models: how a run's network is built, and what its tensors are called in a checkpoint.

* plugin.py: the contract, `ModelPlugin` and `WeightMapper`.
* base_model.py: `BaseModel`, the base class of models that are not from transformers.
* tensor_parallel.py: split the blocks of such a model over ranks.
* registry.py: `ModelRegistry`, by which a launch script brings a model.
* select.py: the model plugin of a run.

Rule: a model says what it computes. Sharding, packing, recomputation, loading and sending weights are rlx's.
"""
