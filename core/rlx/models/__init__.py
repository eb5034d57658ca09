"""Models: how a run's network is built, and what its tensors are called in a checkpoint.

Files:
    plugin.py           the contract, `ModelPlugin` and `WeightMapper`
    base_model.py       `BaseModel`, the base class of models that are not from transformers
    architectures.py    what RL can't do with some architectures, and what training does with dropout
    plain.py            models whose checkpoints are checked by arithmetic, without torch
    rope.py             rotary frequencies that depend on the length of a sequence
    tensor_parallel.py  splits the blocks of a model over ranks
    registry.py         `ModelRegistry`, with which a launch script registers models
    select.py           selects the model plugin of a run

Rule: a model defines the computation. Sharding, packing, recomputation, loading and sending weights are up to rlx.
"""
