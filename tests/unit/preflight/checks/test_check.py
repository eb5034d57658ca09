from __future__ import annotations

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.preflight.checks.check import check_tensor_parallel
from rlx.preflight.checks.model_facts import ModelFacts


@pytest.mark.parametrize(
    ("heads", "kv_heads", "possible"),
    [(4, 2, [1, 2, 4]), (9, 3, [1, 3, 9]), (12, 4, [1, 2, 4, 12]), (12, 6, [1, 2, 3, 6, 12]), (7, 7, [1, 7])],
)
def test_tensor_parallel_must_divide_the_attention_heads(heads, kv_heads, possible):
    """By vLLM's rule, the size divides the attention heads, and it divides the KV heads or they divide it."""
    facts = ModelFacts(model_type="x", attention_heads=heads, kv_heads=kv_heads)

    def fits(ways):
        config = Config.model_validate(
            {"model": {"path": "m"}, "dataset": {"name": "d"}, "rollout": {"tensor_parallel": ways}}
        )
        try:
            check_tensor_parallel(config, facts)
        except ConfigError as error:
            assert f"Possible: {', '.join(map(str, possible))}." in str(error)  # noqa: PT017
            return False
        return True

    assert [ways for ways in range(1, 14) if fits(ways)] == possible
