"""An engine that missed an update, a tensor or a shard of one is noticed, in every dtype and at a small learning rate."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlx.testing.stand_ins.models import make_char_model

QUERY = "model.layers.1.self_attn.q_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
OMISSIONS = {
    "one whole update": ((0, 1), None),
    "one whole update in one worker": ((1,), None),
    "one fused tensor": ((0, 1), [QUERY]),
    "the embedding": ((0, 1), [EMBEDDING]),
    "one shard of a tensor split by rows": ((1,), [QUERY]),
    "one shard of a tensor split by columns": ((0,), [DOWN]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_missed_update_is_noticed(tmp_path, monkeypatch, dtype):
    # Its processes import the module again.
    monkeypatch.syspath_prepend(Path(__file__).parent)
    make_workers = import_module("engine_workers").Workers
    folder = make_char_model(tmp_path / "model", num_hidden_layers=2)
    workers = make_workers(folder, dtype, load_file(folder / "model.safetensors"))
    try:
        version = 0
        assert workers.sync(version) == []
        assert [proof.covered for proof in workers.proofs] == [1.0, 1.0]
        assert not any(proof.uncovered for proof in workers.proofs)
        for what, (ranks, tensors) in OMISSIONS.items():
            version += 1
            workers.step()
            found = workers.sync(version, (ranks, tensors))
            assert {fault.split(":")[0] for fault in found} == {f"worker {rank} of 2" for rank in ranks}, what
            for name in tensors or [QUERY, DOWN, EMBEDDING]:
                assert sum(fault.endswith(f"does not hold what was sent as {name}") for fault in found) == len(ranks)
            assert tensors is None or len(found) == len(ranks) * len(tensors), found
            version += 1
            workers.step()
            assert workers.sync(version) == [], f"after {what}"
    finally:
        workers.close()
