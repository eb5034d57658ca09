"""A GRPO step trains what transformers computes in evaluation mode with eager attention, whatever the architecture.

Here a few, one for each trait; all of them, with engines, are in tests/long.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

from rlx.algorithms.grpo import GRPO
from rlx.algorithms.sft import SFT
from rlx.config.sections.policy import PolicyConfig
from rlx.errors import ConfigError
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.trainer import Trainer

MATRIX = Path(__file__).parents[2] / "long/matrix.py"
TRAITS = {
    "gpt2": "packed",  # dropout by default, as modules and in attention
    "opt": "packed",  # dropout and layer drop
    "llama (attention_dropout, biases)": "packed",
    "gemma2": "padded, eager attention",  # caps of scores and of logits
    "gemma3_text": "padded, sdpa attention",  # windows in half of the layers
    "gpt_oss": "padded, eager attention",  # sinks
    "phi3 (longrope)": "packed",
    "llama (dynamic NTK)": "packed",
    "cohere2": "padded, sdpa attention",
    "granitemoe": "packed",  # multipliers and experts
    "bloom": "padded, eager attention",  # positions as a bias of scores
    "qwen3_next": "padded, sdpa attention",  # a recurrent layer
}


@pytest.fixture(scope="module")
def measured():
    """What tests/long/matrix.py measures for each of TRAITS, in a process of its own."""
    command = [sys.executable, str(MATRIX), "--no-engine", *TRAITS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", TRAITS)
def test_a_step_trains_what_transformers_computes(measured, name):
    row = measured[name]
    assert row["trained"] <= 1e-5
    assert row["policy"] <= 1e-5
    assert row["moved"] > 0.1
    assert row["rows"] == TRAITS[name]


@pytest.fixture
def train(world, build, groups, tmp_path):
    """`train(algorithm, **policy)`: the loss of a step of a GPT-2, and of the same step without training mode."""
    import torch

    shape = {"vocab_size": 128, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    torch.manual_seed(0)
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, bos_token_id=None)).save_pretrained(tmp_path / "m")

    def run(algorithm, **policy):
        config = PolicyConfig.model_validate({"dtype": "float32", **policy})
        built = build(tmp_path / "m", **policy)
        optimizer = Optimizer(dict(built.network.named_parameters()), config.optimizer, 10)
        trainer = Trainer(world, built.model, optimizer, algorithm, config)
        episodes = [episode for group in groups(0) for episode in group]
        exact = trainer.evaluate(episodes)["eval/loss"]
        return trainer.train(groups(0))["loss"], exact

    return run


@pytest.mark.parametrize(("dropout", "applied"), [(None, True), (True, True), (False, False)])
def test_sft_applies_dropout_by_default(train, dropout, applied):
    loss, exact = train(SFT(), dropout=dropout)
    assert (abs(loss - exact) > 1e-3) == applied


@pytest.mark.parametrize(("dropout", "applied"), [(None, False), (True, True), (False, False)])
def test_rl_leaves_dropout_out_by_default(train, dropout, applied):
    class Likelihood(GRPO):
        """The loss of SFT, so that it can be compared with an evaluation."""

        def loss(self, batch, totals):
            return SFT().loss(batch, totals)

    loss, exact = train(Likelihood(), dropout=dropout)
    assert (abs(loss - exact) > 1e-3) == applied


@pytest.fixture
def capped(tmp_path):
    """The folder of a Gemma 2 whose soft cap bites."""
    import torch

    shape = {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    config = transformers.Gemma2Config(
        **shape,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_logit_softcapping=2.0,
        query_pre_attn_scalar=1,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    transformers.Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_attention_that_ignores_a_cap_is_refused_by_name(build, capped, dtype):
    with pytest.raises(ConfigError, match=r"attention = 'sdpa' .*attn_logit_softcapping = 2\.0.* 'eager'"):
        build(capped, attention="sdpa", dtype=dtype)
    assert build(capped, attention="eager", dtype=dtype).network.config._attn_implementation == "eager"


def test_attention_that_ignores_a_cap_is_found_by_measuring(build, capped, monkeypatch):
    """As for an option of some architecture that rlx does not know by name."""
    from rlx.policy.model.adapters import TransformersAdapter

    monkeypatch.setattr(TransformersAdapter, "attention_refusal", lambda *_: None)
    assert build(capped).network.config._attn_implementation == "eager"
    with pytest.raises(ConfigError, match=r"attention = 'sdpa' does not fit the model: .* differ from those of"):
        build(capped, attention="sdpa")
