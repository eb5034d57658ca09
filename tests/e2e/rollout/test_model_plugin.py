"""`check_model_plugin(engine=True)`: a real engine accepts the mapper's tensors, and detects a wrong mapper."""

from __future__ import annotations

import pytest

from rlx.models.plugin import ModelPlugin
from rlx.testing import ContractError, check_model_plugin
from rlx_models.hf import HFWeightMapper, build, plugin

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


class Swapped(HFWeightMapper):
    """A mapper that swaps the up and gate projections."""

    def policy_to_hf(self, name, tensor):
        swapped = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
        return [(name.replace(part, other), tensor) for part, other in swapped.items() if part in name] or [
            (name, tensor)
        ]


def test_the_built_in_plugin_keeps_the_contract(tiny_model):
    check_model_plugin(plugin, tiny_model, engine=True)


def test_a_mapper_that_swaps_names_breaks_the_contract(tiny_model):
    with pytest.raises(ContractError) as caught:
        check_model_plugin(ModelPlugin(build=build, weight_mapper=Swapped), tiny_model, engine=True)
    assert "engine" in caught.value.rules
