"""Models: how a run's network is built, and what its tensors are called in a checkpoint.

Files:
    plugin.py           the contract, `ModelPlugin` and `WeightMapper`
    base_model.py       `BaseModel`, the base class of models that are not from transformers
    tensor_parallel.py  splits the blocks of a model over ranks
    registry.py         `ModelRegistry`, with which a launch script registers models
    select.py           selects the model plugin of a run

Rule: a model defines the computation. Sharding, packing, recomputation, loading and sending weights are up to rlx.
"""
