"""`check_model_plugin`: plugins that keep the contract, and a plugin that breaks it for each rule."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from rlx.models.plugin import ModelPlugin
from rlx.testing import ContractError, check_model_plugin
from rlx.testing.models import make_char_model
from rlx.testing.suites.model_plugin import RULES
from rlx_models.hf import HFWeightMapper, build
from rlx_models.hf import plugin as hf

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_char_model(tmp_path_factory.mktemp("model"), num_hidden_layers=2)


@pytest.fixture(scope="module")
def toy():
    path = Path(__file__).parents[3] / "examples" / "custom_model" / "toy_model.py"
    spec = importlib.util.spec_from_file_location("toy_model_of_the_examples", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.plugin


def mapper(to_hf=None, to_policy=None):
    """The built-in mapper, with a mistake."""

    class Mistaken(HFWeightMapper):
        def policy_to_hf(self, name, tensor):
            found = super().policy_to_hf(name, tensor)
            return found if to_hf is None else to_hf(found)

        def hf_to_policy(self, tensors):
            found = super().hf_to_policy(tensors)
            return found if to_policy is None else to_policy(found)

    return ModelPlugin(build=build, weight_mapper=Mistaken)


def but(pairs, change):
    """Change the pairs of the output projection of the first layer."""
    for name, tensor in pairs:
        yield from [(name, tensor)] if "layers.0.self_attn.o_proj" not in name else change(name, tensor)


def dead(hf_config, **options):
    """Build a network with a parameter that gets no gradient."""
    network = build(hf_config, **options)
    network.model.embed_tokens.weight.requires_grad_(requires_grad=False)
    return network


BROKEN = {
    "plugin": [object()],
    "meta": [
        ModelPlugin(build=lambda config, **options: torch.nn.Linear(2, 2), weight_mapper=HFWeightMapper),
        mapper(to_hf=lambda pairs: [(n + ("" if not t.is_meta else "_"), t) for n, t in pairs]),
    ],
    "covered": [
        mapper(to_policy=lambda pairs: but(pairs, lambda name, tensor: [])),
        mapper(to_policy=lambda pairs: but(pairs, lambda name, tensor: [(name, tensor[:1])])),
        mapper(to_policy=lambda pairs: but(pairs, lambda name, tensor: [(name, tensor), ("more", tensor)])),
    ],
    "round-trip": [
        mapper(to_hf=lambda pairs: but(pairs, lambda name, tensor: [])),
        mapper(to_hf=lambda pairs: but(pairs, lambda name, tensor: [(name, tensor.T)])),
        mapper(to_hf=lambda pairs: but(pairs, lambda name, tensor: [(name, tensor.float() * 2)])),
    ],
    "logits": [mapper(to_policy=lambda pairs: but(pairs, lambda name, tensor: [(name, tensor.T)]))],
    "gradient": [ModelPlugin(build=dead, weight_mapper=HFWeightMapper)],
}


@pytest.mark.parametrize("which", ["hf", "toy"])
def test_built_in_and_example_keep_the_contract(which, toy, folder):
    check_model_plugin(hf if which == "hf" else toy, folder)


@pytest.mark.parametrize(("rule", "plugin"), [(rule, plugin) for rule, plugins in BROKEN.items() for plugin in plugins])
def test_a_broken_rule_is_named(rule, plugin, folder):
    with pytest.raises(ContractError) as caught:
        check_model_plugin(plugin, folder)
    assert rule in caught.value.rules


def test_every_rule_has_a_plugin_that_breaks_it():
    assert set(BROKEN) == set(RULES) - {"engine"}
