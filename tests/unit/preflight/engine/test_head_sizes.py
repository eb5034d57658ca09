from __future__ import annotations

import json

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.platform import PLATFORMS
from rlx.preflight.checks.model_facts import model_facts
from rlx.preflight.engine.head_sizes import check_head_size, supported_head_sizes

SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""Those of vLLM 0.32's kernels for a CPU, by hand from its csrc."""


def _config(device="cpu"):
    return Config.model_validate({"run": {"device": device}, "model": {"path": "m"}, "dataset": {"name": "d"}})


def test_the_sizes_are_read_from_vllms_source():
    assert supported_head_sizes(PLATFORMS["cpu"].attention) == SIZES
    assert supported_head_sizes(PLATFORMS["cpu"].latent_attention) == (576,)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class B:\n def get_supported_head_sizes(cls):\n  # of the kernel\n  return [1, 2]\n", (1, 2)),
        ("class B:\n def get_supported_head_sizes(cls):\n  return SIZES\n", None),
        ("class B:\n def get_supported_head_sizes(cls):\n  if amx:\n   return [1]\n  return [2]\n", None),
        ("class B: pass\n", None),
        ("", None),
    ],
)
def test_sizes_that_the_source_does_not_spell_out_are_unknown(tmp_path, monkeypatch, source, expected):
    (tmp_path / "backend_of_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert supported_head_sizes("backend_of_a_test:B") == expected
    assert supported_head_sizes("no_such_module:B") is None


@pytest.mark.parametrize("size", [8, 16, 24, 40, 48, 100, 120, 320])
def test_a_size_that_the_engine_lacks_is_refused_with_those_that_it_has(size):
    with pytest.raises(
        ConfigError, match=rf"\(head_dim\) have the size {size}\. .*computes with 32, 64, 80, .*512 only"
    ):
        check_head_size(_config(), size, latent=False)
    check_head_size(_config("cuda"), size, latent=False)


@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_size_that_the_engine_has_passes(size):
    check_head_size(_config(), size, latent=False)


def test_latent_attention_has_sizes_of_its_own():
    check_head_size(_config(), 576, latent=True)
    with pytest.raises(ConfigError, match=r"latent entries .* have the size 80\. .* computes with 576 only"):
        check_head_size(_config(), 80, latent=True)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"model_type": "qwen3", "head_dim": 16, "hidden_size": 128, "num_attention_heads": 4}, 16),
        ({"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}, 16),
        ({"model_type": "llama", "head_dim": None, "hidden_size": 64, "num_attention_heads": 2}, 32),
        ({"model_type": "qwen3", "hidden_size": 128, "num_attention_heads": 8}, None),
        ({"model_type": "deepseek_v3", "head_dim": 64, "kv_lora_rank": 512, "qk_rope_head_dim": 64}, None),
        ({"model_type": "gemma3", "text_config": {"num_attention_heads": 4, "head_dim": 256}}, 256),
        ({"model_type": "mamba2", "num_heads": 8, "head_dim": 16}, None),
        ({"model_type": "mamba"}, None),
    ],
)
def test_the_size_comes_from_config_json_where_that_has_it(tmp_path, config, size):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_facts(_config().model.model_copy(update={"path": str(tmp_path)})).head_size == size
