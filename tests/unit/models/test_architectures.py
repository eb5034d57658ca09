"""What the config of a model says about its rotary frequencies, its dropout and its longest sequence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rlx.config.schema import Config
from rlx.errors import ConfigError
from rlx.models.architectures import (
    check_engine_rope,
    check_engine_support,
    check_row_length,
    context_given,
    dropout_notes,
    dropout_rates,
)
from rlx.models.rope import RopeLimit, rope_limit

LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


class HFConfig(SimpleNamespace):
    """The part of a Hugging Face config that is read here."""

    def get_text_config(self):
        return self

    def to_dict(self):
        return dict(vars(self))


def run(**tables):
    return Config.model_validate({"model": {"path": "m"}, "dataset": {"name": "none"}, **tables})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 512}, None),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default"}}, None),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, None),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}, None),
        (
            {"max_position_embeddings": 512, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}},
            RopeLimit("dynamic", 512, 2048),
        ),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "dynamic", "alpha": 1000.0}}, None),
        # vLLM's default is what the config's own attribute says, else the whole context.
        (
            {
                "max_position_embeddings": 131072,
                "original_max_position_embeddings": 4096,
                "rope_parameters": {"rope_type": "longrope"},
            },
            RopeLimit("longrope", 4096, 4096),
        ),
        ({"max_position_embeddings": 131072, "rope_parameters": LONGROPE}, RopeLimit("longrope", 4096, 131072)),
        # One kind of layers with another kind of frequencies.
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"sliding_attention": {"rope_type": "default"}, "full_attention": LONGROPE},
            },
            RopeLimit("longrope", 4096, 131072),
        ),
    ],
)
def test_the_limit_of_rotary_frequencies(config, expected):
    assert rope_limit(HFConfig(**config)) == expected


DYNAMIC = HFConfig(max_position_embeddings=512, rope_parameters={"rope_type": "dynamic", "factor": 2.0})
PHI3 = HFConfig(max_position_embeddings=131072, original_max_position_embeddings=4096, rope_parameters=LONGROPE)


@pytest.mark.parametrize(
    ("model", "vllm", "refused"),
    [
        (DYNAMIC, {}, r"max_model_len \(1024 by default\): .*'dynamic'.* Set at most 512"),
        (DYNAMIC, {"max_model_len": -1}, "1024 by default"),
        (DYNAMIC, {"max_model_len": 513}, "max_model_len = 513"),
        (DYNAMIC, {"max_model_len": 512}, None),
        (PHI3, {}, None),
        (PHI3, {"max_model_len": 4096}, None),
        (PHI3, {"max_model_len": 8192}, r"max_model_len = 8192: .*'longrope'.* Set at most 4096"),
    ],
)
def test_engines_that_scale_frequencies_are_refused(model, vllm, refused):
    config = run(rollout={"vllm": vllm})
    if refused is None:
        check_engine_rope(config, model)
    else:
        with pytest.raises(ConfigError, match=refused):
            check_engine_rope(config, model)


GPT_OSS = HFConfig(model_type="gpt_oss")
MIXED = {"layer_types": ["full_attention", "sliding_attention"], "num_hidden_layers": 2}
COHERE2 = HFConfig(model_type="cohere2", sliding_window=4096, max_position_embeddings=8192)
DELTA_NET = HFConfig(model_type="qwen3_next", layer_types=["linear_attention", "full_attention"])


@pytest.mark.parametrize(
    ("model", "tables", "refused"),
    [
        (HFConfig(model_type="llama"), {}, None),
        (GPT_OSS, {}, r"'m' \(gpt_oss\) can't be trained by RL: .* SFT can"),
        (HFConfig(model_type="qwen2", max_window_layers=1, **MIXED), {}, "max_window_layers = 1 of 2 layers"),
        (HFConfig(model_type="qwen3", max_window_layers=1, **MIXED), {}, "max_window_layers = 1 of 2 layers"),
        (HFConfig(model_type="gemma3_text", **MIXED), {}, None),
        (HFConfig(model_type="qwen2", layer_types=["sliding_attention"] * 2, max_window_layers=0), {}, None),
        (COHERE2, {}, "at most 4096, or hf_overrides = { sliding_window = 4095 }"),
        (COHERE2, {"rollout": {"vllm": {"max_model_len": 4097}}}, "one token more"),
        (COHERE2, {"rollout": {"vllm": {"max_model_len": 4096}}}, None),
        (COHERE2, {"rollout": {"vllm": {"hf_overrides": {"sliding_window": 4095}}}}, None),
        (HFConfig(model_type="lfm2"), {}, "by 0.16 on average"),
        (HFConfig(model_type="lfm2"), {"run": {"device": "cuda"}}, None),
        (DELTA_NET, {"policy": {"dtype": "float32"}}, r"bfloat16 only, not in float32\. Set \[rollout\] dtype"),
        (DELTA_NET, {"policy": {"dtype": "float32"}, "rollout": {"dtype": "bfloat16"}}, None),
        (DELTA_NET, {}, None),
        (DELTA_NET, {"policy": {"dtype": "float32"}, "run": {"device": "cuda"}}, None),
    ],
)
def test_models_that_engines_cannot_follow_are_refused(model, tables, refused):
    if refused is None:
        check_engine_support(run(**tables), model)
    else:
        with pytest.raises(ConfigError, match=refused):
            check_engine_support(run(**tables), model)


def test_sft_rows_stay_below_the_limit():
    check_row_length(run(), PHI3)
    check_row_length(run(policy={"max_sequence_tokens": 4096}), PHI3)
    check_row_length(run(policy={"max_sequence_tokens": 8192}), HFConfig(max_position_embeddings=131072))
    with pytest.raises(ConfigError, match=r"max_sequence_tokens = 8192: .* Set at most 4096"):
        check_row_length(run(policy={"max_sequence_tokens": 8192}), PHI3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"attn_pdrop": 0.1, "summary_first_dropout": 0.1}, {"attn_pdrop": 0.1}),
        ({"attention_dropout": 0.0, "hidden_size": 64}, {}),
        ({"attention_dropout": 0.2, "classifier_dropout": 0.3}, {"attention_dropout": 0.2}),
        ({"dropout": 0.1, "layerdrop": 0.05, "activation_dropout": 0}, {"dropout": 0.1, "layerdrop": 0.05}),
        ({"residual_dropout": 0.1, "hidden_dropout_prob": 0.1, "embd_pdrop": 0.1, "ffn_dropout": None}, {
            "embd_pdrop": 0.1, "hidden_dropout_prob": 0.1, "residual_dropout": 0.1,
        }),
        ({"attn_config": {"attn_pdrop": 0.1}, "drop_path": False}, {}),
    ],
)  # fmt: skip
def test_dropout_rates(config, expected):
    assert dropout_rates(HFConfig(**config)) == expected


@pytest.mark.parametrize(
    ("rollouts", "dropout", "words"),
    [
        (True, None, "leaves out"),
        (True, False, "leaves out"),
        (True, True, "applies"),
        (False, None, "applies"),
        (False, False, "leaves out"),
        (False, True, "applies"),
    ],
)
def test_a_note_says_what_training_does_with_dropout(rollouts, dropout, words):
    config = run(policy={"dropout": dropout})
    (note,) = dropout_notes(config, HFConfig(attn_pdrop=0.1), rollouts=rollouts)
    assert f"Training {words} the model's dropout (attn_pdrop = 0.1)" in note
    assert list(dropout_notes(config, HFConfig(attn_pdrop=0.0), rollouts=rollouts)) == []


@pytest.mark.parametrize(
    ("config", "given"),
    [
        ({"max_position_embeddings": 512}, True),
        ({"n_positions": 512}, True),
        ({"seq_length": 2048}, True),
        ({"max_position_embeddings": None}, False),
        ({"n_embed": 64}, False),
    ],
)
def test_the_longest_sequence_of_an_engine(config, given):
    assert context_given(HFConfig(**config)) == given
