"""`check_model_plugin` with plugins that keep the contract, and with plugins that break each of its rules."""

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


def wrong_mapper(to_hf=None, to_policy=None):
    """Return a plugin with the built-in mapper, whose results these functions falsify."""

    class Mistaken(HFWeightMapper):
        def policy_to_hf(self, name, tensor):
            found = super().policy_to_hf(name, tensor)
            return found if to_hf is None else to_hf(found)

        def hf_to_policy(self, tensors):
            found = super().hf_to_policy(tensors)
            return found if to_policy is None else to_policy(found)

    return ModelPlugin(build=build, weight_mapper=Mistaken)


def change_o_proj(pairs, change):
    """Replace the pair of the first layer's output projection by those that `change` returns."""
    for name, tensor in pairs:
        yield from [(name, tensor)] if "layers.0.self_attn.o_proj" not in name else change(name, tensor)


def build_frozen(hf_config, **options):
    """Build a network with a frozen parameter, which gets no gradient."""
    network = build(hf_config, **options)
    network.model.embed_tokens.weight.requires_grad_(requires_grad=False)
    return network


BROKEN = {
    "plugin": [object()],
    "meta": [
        ModelPlugin(build=lambda config, **options: torch.nn.Linear(2, 2), weight_mapper=HFWeightMapper),
        wrong_mapper(to_hf=lambda pairs: [(n + ("" if not t.is_meta else "_"), t) for n, t in pairs]),
    ],
    "covered": [
        wrong_mapper(to_policy=lambda pairs: change_o_proj(pairs, lambda name, tensor: [])),
        wrong_mapper(to_policy=lambda pairs: change_o_proj(pairs, lambda name, tensor: [(name, tensor[:1])])),
        wrong_mapper(
            to_policy=lambda pairs: change_o_proj(pairs, lambda name, tensor: [(name, tensor), ("more", tensor)])
        ),
    ],
    "round-trip": [
        wrong_mapper(to_hf=lambda pairs: change_o_proj(pairs, lambda name, tensor: [])),
        wrong_mapper(to_hf=lambda pairs: change_o_proj(pairs, lambda name, tensor: [(name, tensor.T)])),
        wrong_mapper(to_hf=lambda pairs: change_o_proj(pairs, lambda name, tensor: [(name, tensor.float() * 2)])),
    ],
    "logits": [wrong_mapper(to_policy=lambda pairs: change_o_proj(pairs, lambda name, tensor: [(name, tensor.T)]))],
    "gradient": [ModelPlugin(build=build_frozen, weight_mapper=HFWeightMapper)],
}


@pytest.mark.parametrize("which", ["hf", "toy"])
def test_the_built_in_plugin_and_the_example_keep_the_contract(which, toy, folder):
    check_model_plugin(hf if which == "hf" else toy, folder)


@pytest.mark.parametrize(("rule", "plugin"), [(rule, plugin) for rule, plugins in BROKEN.items() for plugin in plugins])
def test_a_broken_rule_is_named(rule, plugin, folder):
    with pytest.raises(ContractError) as caught:
        check_model_plugin(plugin, folder)
    assert rule in caught.value.rules


def test_every_rule_has_a_plugin_that_breaks_it():
    assert set(BROKEN) == set(RULES) - {"engine"}
