"""Completions and scores of a real engine: tokens, logprobs, versions, metrics."""

from __future__ import annotations

import asyncio

import pytest

from rlx.errors import RunError

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = [[5, 6, 7, 8], [20, 21], [30, 31, 32, 33, 34, 35, 36]]


async def test_completions_have_the_requested_number_and_length(engine, generate):
    groups = await asyncio.gather(
        *(generate(engine, prompt, samples=4, max_tokens=12, temperature=1.0) for prompt in PROMPTS)
    )
    for group in groups:
        assert len(group) == 4
        assert len({tuple(one.tokens) for one in group}) > 1, "four samples at temperature 1 differ"
        for one in group:
            assert 1 <= len(one.tokens) == len(one.logprobs) <= 12
            assert [(span.version, span.length) for span in one.versions] == [(engine.version, len(one.tokens))]
            assert one.finish_reason == ("stop" if one.tokens[-1] == 1 else "length")
            assert 1 not in one.tokens[:-1]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
async def test_logprobs_of_sampled_tokens_include_the_temperature(
    engine, tiny_model, checkpoint, reference, policy, temperature, generate
):
    weights = checkpoint(tiny_model, noise=0.1, seed=10)
    await policy.send(10, weights)
    samples = await generate(engine, PROMPTS[0], samples=8, max_tokens=40, temperature=temperature)
    sequences = [PROMPTS[0] + one.tokens for one in samples]
    expected = reference(tiny_model, weights, sequences, temperature=temperature)
    for one, row in zip(samples, expected, strict=True):
        assert one.logprobs == pytest.approx(row[len(PROMPTS[0]) - 1 :], abs=1e-5)


async def test_scores_ignore_temperature_and_prefix_cache(engine, tiny_model, checkpoint, reference, policy, generate):
    weights = checkpoint(tiny_model, noise=0.1, seed=11)
    await policy.send(11, weights)
    long = [3 + i % 60 for i in range(200)]
    expected = reference(tiny_model, weights, [*PROMPTS, long])
    await generate(engine, long, samples=2, max_tokens=4, temperature=0.5)
    for _ in range(2):
        scores = await engine.score([*PROMPTS, long])
        assert [len(row) for row in scores] == [len(prompt) - 1 for prompt in [*PROMPTS, long]]
        for row, wanted in zip(scores, expected, strict=True):
            assert row == pytest.approx(wanted, abs=1e-5)


async def test_temperature_0_samples_greedily(engine, generate):
    one, other = await generate(engine, [9, 10, 11], samples=2, max_tokens=16, temperature=0.0)
    assert one.tokens == other.tokens


async def test_the_error_for_a_long_prompt_names_the_replica(engine, generate):
    with pytest.raises(RunError, match="rollout-0 refuses a prompt of 300 tokens"):
        await generate(engine, [5] * 300, samples=1, max_tokens=4, temperature=1.0)
    assert (await generate(engine, [5], samples=1, max_tokens=2, temperature=1.0))[0].tokens


async def test_busy_time_and_tokens_are_counted_while_requests_run(engine, generate):
    seconds, tokens = engine.busy_seconds, engine.tokens
    group = await generate(engine, [5, 6], samples=2, max_tokens=8, temperature=1.0)
    assert engine.tokens - tokens == sum(len(one.tokens) for one in group)
    busy = engine.busy_seconds
    assert busy > seconds
    await asyncio.sleep(0.05)
    assert engine.busy_seconds == busy


async def test_an_engine_in_bfloat16_samples(start_engine, tiny_model, checkpoint, reference, generate):
    """vLLM's attention uses AMX if the CPU has it: unless rlx requests it first, the engine is killed by SIGILL."""
    async with start_engine(tiny_model, dtype="bfloat16") as engine:
        samples = await generate(engine, PROMPTS[0], samples=4, max_tokens=24, temperature=1.0)
    expected = reference(tiny_model, checkpoint(tiny_model), [PROMPTS[0] + one.tokens for one in samples])
    for one, row in zip(samples, expected, strict=True):
        assert one.logprobs == pytest.approx(row[len(PROMPTS[0]) - 1 :], abs=0.05)
