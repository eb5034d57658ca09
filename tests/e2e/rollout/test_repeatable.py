"""Batches behind a barrier repeat bit for bit, whatever an engine has sampled before."""

from __future__ import annotations

import asyncio

import pytest

from rlx.errors import RunError

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PROMPTS = [[3 + (i * 7 + j) % 70 for j in range(4 + i % 5)] for i in range(12)]


async def _step(engine, seed, temperature=1.0):
    """Sample the groups of one step behind a barrier, and return them as plain data."""
    async with engine.barrier(seed):
        pending = [await engine.submit(prompt, samples=8, max_tokens=24, temperature=temperature) for prompt in PROMPTS]
    groups = [await engine.collect(one) for one in pending]
    return [(one.tokens, one.logprobs, one.finish_reason) for group in groups for one in group]


async def test_the_same_seed_gives_the_same_bits_in_another_engine(
    engine, policy, start_engine, policy_of, tiny_model, checkpoint
):
    weights = checkpoint(tiny_model, noise=0.2, seed=50)
    await policy.send(50, weights)
    first = await _step(engine, seed=7)
    await engine.collect(await engine.submit([70, 71], samples=3, max_tokens=9, temperature=0.7))
    await engine.score(PROMPTS)
    assert await _step(engine, seed=7) == first, "earlier requests change the samples"
    assert await _step(engine, seed=8) != first
    async with start_engine(tiny_model, name="other") as other:
        await policy_of(other).send(1, weights)
        await _step(other, seed=1)
        assert await _step(other, seed=7) == first


async def test_nothing_is_sampled_before_the_end_of_the_barrier(engine):
    async with engine.barrier(3):
        pending = await engine.submit([5, 6], samples=1, max_tokens=1, temperature=1.0)
        collecting = asyncio.create_task(engine.collect(pending))
        await asyncio.sleep(0.2)
        assert not collecting.done()
    assert len(await collecting) == 1


async def test_a_barrier_requires_an_idle_engine(engine):
    pending = await engine.submit([5, 6, 7], samples=1, max_tokens=30, temperature=1.0)
    with pytest.raises(RunError, match="cannot start a repeatable batch: 1 requests are still in its engine"):
        async with engine.barrier(1):
            pass
    await engine.collect(pending)
