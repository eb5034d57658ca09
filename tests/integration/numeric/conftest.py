"""Small random models and groups of episodes that cover every case of a step."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest
import torch

from rlx.episodes import Episode, Reward, Segment, single_turn

VOCABULARY = 61


def _draw(source, count):
    return [source.randrange(VOCABULARY) for _ in range(count)]


def _completion(source, prompt, length):
    return single_turn(prompt, _draw(source, length), logprobs=[-4.5 + source.random() for _ in range(length)])


@pytest.fixture
def groups():
    """Three ragged groups of four episodes that share a prompt.

    One episode is unscored, one untrainable; one has two turns, one two trajectories, and one a prompt of its own.
    """
    source = random.Random(0)
    groups = []
    for group_id in range(3):
        prompt = _draw(source, source.randint(3, 9))
        episodes = [
            Episode(group_id, sample, 0, [_completion(source, prompt, source.randint(1, 8))]) for sample in range(4)
        ]
        for episode in episodes:
            episode.rewards = [Reward("reward", source.random())]
        groups.append(episodes)
    groups[0][1].rewards = [Reward("reward", None)]
    groups[0][2].trajectories[0].segments[1].trainable = False
    groups[1][0].trajectories[0].segments += [
        Segment("observed", _draw(source, 3)),
        Segment("sampled", _draw(source, 4), logprobs=[-4.0] * 4),
    ]
    groups[1][1].trajectories.append(_completion(source, groups[1][1].trajectories[0].segments[0].tokens, 5))
    groups[2][3].trajectories = [_completion(source, _draw(source, 4), 3)]
    return groups


@pytest.fixture
def tiny():
    """`tiny("qwen3", tied=True, ...)`: a random float32 causal LM with grouped-query attention, in training mode."""
    import transformers

    families = {
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
        "granite": (transformers.GraniteConfig, transformers.GraniteForCausalLM),
    }

    def make(family="qwen3", *, tied=True, cls=None, **options):
        config_class, model_class = families[family]
        config = config_class(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            # Large enough that logits differ clearly from token to token.
            initializer_range=0.15,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            tie_word_embeddings=tied,
            **options,
        )
        torch.manual_seed(0)
        return (cls or model_class)(config).train()

    return make


@pytest.fixture(scope="session")
def toy_model():
    """The module of examples/custom_model."""
    path = Path(__file__).parents[3] / "examples/custom_model/toy_model.py"
    spec = importlib.util.spec_from_file_location("toy_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tiny, toy_model):
    """`toy(tied=True)`: the example's model with the weights of `tiny("qwen3")`, and that model."""

    def make(*, tied=True, cls=None):
        theirs = tiny("qwen3", tied=tied)
        # Make the padding token like any other: transformers initialises it with zeros, and never trains it.
        theirs.model.embed_tokens.padding_idx = None
        torch.nn.init.normal_(theirs.model.embed_tokens.weight.data[0], std=0.15)
        ours = (cls or toy_model.ToyModel)(theirs.config)
        mapper = toy_model.ToyMapper(theirs.config)
        ours.load_state_dict(dict(mapper.hf_to_policy(iter(theirs.state_dict().items()))), strict=False)
        return ours, theirs

    return make
