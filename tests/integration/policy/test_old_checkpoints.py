"""Checkpoints of older versions of transformers: buffers that models now compute, and decoders without their prefix."""

from __future__ import annotations

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from rlx.errors import UsageError
from rlx.policy.packing.step_plan import score_plan
from rlx.policy.weights.export import export
from rlx.policy.weights.load import check_weights
from rlx_models.hf import plugin

TOKENS = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    **TOKENS,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **TOKENS}
FREQUENCIES, MASK, MASKED = torch.ones(4), torch.ones(1, 1, 64, 64, dtype=torch.bool), torch.tensor(-1e9)
OLD = {
    "llama": (transformers.LlamaConfig(**SHAPE), {"model.layers.{}.self_attn.rotary_emb.inv_freq": FREQUENCIES}),
    "mistral": (
        transformers.MistralConfig(**SHAPE, num_key_value_heads=2),
        {"model.layers.{}.self_attn.rotary_emb.inv_freq": FREQUENCIES},
    ),
    "gpt_neox": (
        transformers.GPTNeoXConfig(**SHAPE),
        {
            "gpt_neox.layers.{}.attention.rotary_emb.inv_freq": FREQUENCIES,
            "gpt_neox.layers.{}.attention.bias": MASK,
            "gpt_neox.layers.{}.attention.masked_bias": MASKED,
        },
    ),
    "gpt2": (
        transformers.GPT2Config(**GPT2),
        {"transformer.h.{}.attn.bias": MASK, "transformer.h.{}.attn.masked_bias": MASKED},
    ),
    "gptj": (
        transformers.GPTJConfig(**GPT2, rotary_dim=4),
        {"transformer.h.{}.attn.bias": MASK, "transformer.h.{}.attn.masked_bias": MASKED},
    ),
    "gpt_neo": (
        transformers.GPTNeoConfig(
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=64,
            **TOKENS,
        ),
        {"transformer.h.{}.attn.attention.bias": MASK, "transformer.h.{}.attn.attention.masked_bias": MASKED},
    ),
    "roberta": (
        transformers.RobertaConfig(**SHAPE, is_decoder=True),
        {"roberta.embeddings.position_ids": torch.arange(64)[None]},
    ),
}
DECODERS = {
    "gpt2": (transformers.GPT2Config(**GPT2), "transformer."),
    "bloom": (transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **TOKENS), "transformer."),
    "llama": (transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True), "model."),
}


def _save(config, folder, change):
    """Write a model whose tensors `change` has changed, and return these."""
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return tensors


def _check(config, folder):
    with torch.device("meta"):
        network = plugin.build(config)
    check_weights(network, folder, plugin.weight_mapper(config))


@pytest.mark.parametrize("family", OLD)
def test_buffers_of_older_checkpoints_are_ignored(tmp_path, family):
    config, extra = OLD[family]
    buffers = {name.format(layer): tensor.clone() for name, tensor in extra.items() for layer in range(2)}
    _save(config, tmp_path, lambda tensors: tensors | buffers)
    _check(config, tmp_path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model.layers.0.self_attn.q_proj.bias", torch.ones(32)),
        ("model.layers.0.self_attn.bias", torch.ones(32)),
        ("model.layers.0.attention.bias", torch.ones(32)),
        ("model.layers.0.self_attn.inv_freq_scale", torch.ones(4)),
        ("model.position_ids_embedding.weight", torch.ones(4, 4)),
        ("lm_head.bias", torch.ones(96)),
    ],
)
def test_other_tensors_without_a_place_are_errors(tmp_path, name, tensor):
    config = transformers.LlamaConfig(**SHAPE)
    _save(config, tmp_path, lambda tensors: tensors | {name: tensor})
    with pytest.raises(UsageError, match=f"1 not in the model: {name}"):
        _check(config, tmp_path)


@pytest.mark.parametrize("family", DECODERS)
def test_a_checkpoint_of_the_decoder_alone_is_loaded_and_exported(build, sequences, tmp_path, family):
    config, prefix = DECODERS[family]
    folder = tmp_path / "decoder"
    source = _save(
        config, folder, lambda tensors: {name.removeprefix(prefix): part.bfloat16() for name, part in tensors.items()}
    )
    built = build(folder)
    export(built, tmp_path / "export", writes=True, tokenizer=None, chat_template=None)
    exported = load_file(tmp_path / "export" / "model.safetensors")
    assert {name.removeprefix(prefix) for name in exported} == source.keys()
    assert all(torch.equal(tensor, source[name.removeprefix(prefix)]) for name, tensor in exported.items())

    built.model.eval()
    (micro,) = score_plan(sequences, max_tokens=1000, packing=built.model.packing).micro_batches
    with torch.no_grad():
        found = micro.by_episode(built.model(micro).logprobs)
        for read in (folder, tmp_path / "export"):
            model = transformers.AutoModelForCausalLM.from_pretrained(read, dtype=torch.float32).eval()
            for index, tokens in enumerate(sequences):
                logprobs = model(torch.tensor([tokens])).logits[0, :-1].log_softmax(-1)
                wanted = logprobs.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
                torch.testing.assert_close(torch.tensor(found[index]), wanted, rtol=0, atol=2e-6)
