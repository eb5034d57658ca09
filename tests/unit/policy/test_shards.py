from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from rlx.policy.parallel.tensors import by_layer
from rlx.policy.weights.export import write_shards
from rlx.policy.weights.hf_folder import INDEX, natural_key, read_headers, read_tensors


def _tensors(count):
    return [(f"layers.{index}.weight", torch.full((4,), float(index))) for index in range(count)]


@pytest.mark.parametrize(("limit", "files"), [(16, 12), (40, 6), (16 * 12, 1)])
def test_shards_hold_everything_and_stay_below_the_limit(tmp_path, limit, files):
    write_shards(_tensors(12), tmp_path, limit)
    assert len(list(tmp_path.glob("*.safetensors"))) == files
    read = list(read_tensors(tmp_path))
    assert [name for name, _ in read] == sorted((name for name, _ in _tensors(12)), key=natural_key)
    assert all(torch.equal(tensor, dict(_tensors(12))[name]) for name, tensor in read)
    assert sorted(read_headers(tmp_path)) == sorted((name, "F32", [4]) for name, _ in _tensors(12))
    assert (tmp_path / INDEX).exists() == (files > 1)


def test_the_index_names_the_file_of_each_tensor(tmp_path):
    write_shards(_tensors(3), tmp_path, 32)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 48}
    for name, file in index["weight_map"].items():
        assert name in load_file(tmp_path / file)


def test_tensor_names_sort_by_number():
    assert sorted(["a.10.b", "a.9.b", "a.b", "a.9"], key=natural_key) == ["a.9", "a.9.b", "a.10.b", "a.b"]


def test_buckets_hold_the_tensors_outside_layers_then_one_layer_each():
    names = ["m.embed", "m.layers.0.a", "m.layers.0.b", "m.layers.10.a", "m.layers.2.a", "m.norm", "m.layers_norm.1.x"]
    assert by_layer(names, "m.layers") == [
        ["m.embed", "m.norm", "m.layers_norm.1.x"],
        ["m.layers.0.a", "m.layers.0.b"],
        ["m.layers.2.a"],
        ["m.layers.10.a"],
    ]
