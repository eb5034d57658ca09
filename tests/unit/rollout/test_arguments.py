from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.rollout.arguments import RESERVED, check_names, engine_environment


def _config(**rollout):
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "d"}, "rollout": rollout})


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_rlx_sets_is_not_the_users_to_set(name):
    with pytest.raises(ConfigError, match=rf"\[rollout.vllm\] {name}: rlx sets it; use"):
        check_names({name: "x"})


def test_the_users_environment_wins_over_the_devices():
    environment = engine_environment(_config(env={"OMP_NUM_THREADS": "3", "MINE": "1"}))
    assert (environment["OMP_NUM_THREADS"], environment["MINE"]) == ("3", "1")
    assert environment["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
