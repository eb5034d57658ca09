"""An engine that missed an update, or a tensor of one, is noticed in every dtype, at a learning rate of 1e-6."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlx.testing.stand_ins.models import make_char_model

pytestmark = pytest.mark.timeout(600)

QUERY = "model.layers.1.self_attn.q_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
EMBEDDING = "model.embed_tokens.weight"
OMISSIONS = {
    "one whole update": None,
    "one fused tensor": [QUERY],
    "one tensor": [DOWN],
    "the embedding": [EMBEDDING],
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
        assert [proof.covered for proof in workers.proofs] == [1.0]
        assert not any(proof.uncovered for proof in workers.proofs)
        for what, tensors in OMISSIONS.items():
            version += 1
            workers.step()
            found = workers.sync(version, ((0,), tensors))
            assert {fault.split(":")[0] for fault in found} == {"worker 0 of 1"}, what
            for name in tensors or [QUERY, DOWN, EMBEDDING]:
                assert sum(fault.endswith(f"does not hold what was sent as {name}") for fault in found) == 1
            assert tensors is None or len(found) == 1, found
            version += 1
            workers.step()
            assert workers.sync(version) == [], f"after {what}"
    finally:
        workers.close()
