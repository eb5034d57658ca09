from __future__ import annotations

import pytest

from rlx_rewards import format_reward_fn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>why</think>\n\n<answer>42</answer>", 1.0),
        ("<think>why</think><answer>42</answer>", 1.0),
        ("<think>why</think>\n<answer>42</answer>", 1.0),
        ("<think>why</think> \n\n\n <answer>42</answer>", 1.0),
        ("<think>why</think>\n\n<answer>42</answer>\n", 1.0),
        ("<think>why</think>\n\n<answer>42</answer> ", 1.0),
        (" \n<think>why</think>\n\n<answer>42</answer>", 1.0),
        ("<think>a\nb < c</think>\n\n<answer>4\n2</answer>", 1.0),
        ("<think></think>\n\n<answer></answer>", 1.0),
        ("<think>why</think>\n\n<answer>4</answer><answer>2</answer>", 0.0),
        ("<think>why</think>\n\n<answer>4</answer> or <answer>2</answer>", 0.0),
        ("<think><think>why</think></think>\n\n<answer>42</answer>", 0.0),
        ("<think>a</think><think>b</think>\n\n<answer>42</answer>", 0.0),
        ("<think>why<answer>42</answer></think>", 0.0),
        ("<think>why</think>\n\n<answer><think>42</answer>", 0.0),
        ("<answer>42</answer>\n\n<think>why</think>", 0.0),
        ("<think>why</think>\n\nso <answer>42</answer>", 0.0),
        ("so <think>why</think>\n\n<answer>42</answer>", 0.0),
        ("<think>why</think>\n\n<answer>42</answer> and more", 0.0),
        ("<think>why</think>\n\n<answer>42", 0.0),
        ("<think>why\n\n<answer>42</answer>", 0.0),
        ("<think>why</think>", 0.0),
        ("<answer>42</answer>", 0.0),
        ("<Think>why</Think>\n\n<Answer>42</Answer>", 0.0),
        ("why</think>\n\n<answer>42</answer>", 0.0),
        ("42", 0.0),
        ("", 0.0),
    ],
)
def test_scores_of_format(text, expected):
    assert format_reward_fn(text) == expected
    assert format_reward_fn(text, "42", prompt="What is 6*7? Use <think>.") == expected


@pytest.mark.parametrize("prompt", ["<|assistant|><think>", "<|assistant|>\n<think>\n"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("why</think>\n\n<answer>42</answer>", 1.0),
        ("\nwhy\n</think>\n\n<answer>42</answer>", 1.0),
        ("<think>why</think>\n\n<answer>42</answer>", 0.0),
        ("<answer>42</answer>", 0.0),
    ],
)
def test_a_prompt_that_already_opened_the_think_tag(text, prompt, expected):
    assert format_reward_fn(text, None, prompt=prompt) == expected


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["<think>", "</think><answer>", "</answer>", " ", "<"])
def test_scoring_time_is_bounded_for_long_completions(piece):
    assert format_reward_fn("<think>" + piece * 50_000) == 0.0
