"""Weights that a plain torch sender sends to real engines: they score like transformers with the same weights."""

from __future__ import annotations

import asyncio
import time

import pytest

from rlx.errors import SyncError

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SEQUENCES = [[5, 6, 7, 8, 9, 10, 11, 12], [40, 41, 42, 43], [3 + i % 70 for i in range(90)]]


def _difference(scores, expected):
    pairs = [(a, b) for row, other in zip(scores, expected, strict=True) for a, b in zip(row, other, strict=True)]
    return max(abs(a - b) for a, b in pairs)


async def _check_sync(engine, policy, folder, checkpoint, reference, version):
    """Sync new weights twice. Each time, the scores change to those of transformers."""
    for seed in (version, version + 1):
        weights = checkpoint(folder, noise=0.3, seed=seed)
        expected = reference(folder, weights, SEQUENCES)
        assert _difference(await engine.score(SEQUENCES), expected) > 1e-2
        received = await policy.send(seed, weights)
        assert received.version == engine.version == seed
        assert received.paused_seconds > 0
        assert _difference(await engine.score(SEQUENCES), expected) <= 1e-5


async def test_tied_embeddings_reach_the_output_head(engine, policy, tiny_model, checkpoint, reference):
    await _check_sync(engine, policy, tiny_model, checkpoint, reference, version=20)


async def test_a_completion_continues_with_weights_that_arrive_in_the_middle(engine, policy, tiny_model, checkpoint):
    first = engine.version
    pending = await engine.submit([5, 6, 7], samples=4, max_tokens=240, temperature=1.0)
    await asyncio.sleep(0.02)
    await policy.send(30, checkpoint(tiny_model, noise=0.05, seed=30))
    spans = [one.versions for one in await engine.collect(pending)]
    assert any([span.version for span in versions] == [first, 30] for versions in spans), spans


async def test_cached_prompts_are_not_used_with_new_weights(
    engine, policy, tiny_model, checkpoint, reference, generate
):
    prompt = [3 + i % 60 for i in range(200)]
    await policy.send(40, checkpoint(tiny_model, noise=0.0))
    await generate(engine, prompt, samples=2, max_tokens=4, temperature=1.0)
    weights = checkpoint(tiny_model, noise=0.5, seed=41)
    await policy.send(41, weights)
    one = (await generate(engine, prompt, samples=1, max_tokens=8, temperature=1.0))[0]
    expected = reference(tiny_model, weights, [prompt + one.tokens])[0]
    assert one.logprobs == pytest.approx(expected[len(prompt) - 1 :], abs=1e-5)


async def test_a_transfer_that_breaks_in_the_middle_is_repeated(engine, policy, tiny_model, checkpoint, reference):
    """The engine stays paused with requests in it, and continues them with the weights of the second transfer."""
    await policy.send(50, checkpoint(tiny_model, noise=0.3, seed=50))
    pending = await engine.submit([5, 6, 7], samples=4, max_tokens=200, temperature=1.0)
    weights = checkpoint(tiny_model, noise=0.3, seed=51)
    began = time.monotonic()
    with pytest.raises(SyncError, match="weight transfer broke"):
        await policy.break_off(51, weights)
    assert time.monotonic() - began < 10, "at once, and not at the timeout"
    assert engine.version == 50
    await policy.send(51, weights)
    assert _difference(await engine.score(SEQUENCES), reference(tiny_model, weights, SEQUENCES)) <= 1e-5
    versions = [span.version for one in await engine.collect(pending) for span in one.versions]
    assert set(versions) == {50, 51}


async def _check_waiting_requests(engine, policy, folder, checkpoint, reference, version):
    """A request runs in the only place; those behind it start with the new weights and read no block of the old ones.

    One of them vLLM has accepted already, as it does with requests that then wait for memory.
    """
    prompt = [3 + i % 60 for i in range(100)]
    new = checkpoint(folder, noise=0.5, seed=version + 1)
    await policy.send(version, checkpoint(folder))
    first = await engine._requests.enter([prompt], _sampling(150))
    behind = await engine.submit(prompt, samples=3, max_tokens=2, temperature=1.0)
    inside = await engine._requests.enter([prompt], _sampling(2))
    states = engine._llm.output_processor.request_states
    while all(state.is_prefilling for state in states.values()):  # noqa: ASYNC110 - vLLM has no event for it
        await asyncio.sleep(0.001)
    assert len(states) == 3, "vLLM gets one of the three that wait: as many as it can run"
    await policy.send(version + 1, new)
    (going_on,) = await engine.collect(first)
    assert [span.version for span in going_on.versions] == [version, version + 1], "it has a token, so it continues"
    outputs = [*await behind.results(), *await inside.results()]
    for output in outputs:
        (one,) = output.outputs
        assert {int(span.version) for span in one.weight_versions} == {version + 1}
        expected = reference(folder, new, [prompt + list(one.token_ids)])[0][len(prompt) - 1 :]
        assert list(one.logprobs.logprobs) == pytest.approx(expected, abs=1e-5)
    # The first one to start reads nothing; the others may read what it wrote.
    assert min(output.num_cached_tokens for output in outputs) == 0


def _sampling(tokens):
    """Return the parameters of a request that samples this number of tokens, whatever they are."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    plain = {"output_kind": RequestOutputKind.FINAL_ONLY, "detokenize": False, "flat_logprobs": True}
    return SamplingParams(max_tokens=tokens, ignore_eos=True, logprobs=0, **plain)


async def test_untied_embeddings_are_synced_and_requests_that_wait_begin_with_them(
    start_engine, policy_of, untied_model, checkpoint, reference
):
    async with start_engine(untied_model, name="untied", vllm={"max_model_len": 256, "max_num_seqs": 1}) as engine:
        policy = policy_of(engine)
        await _check_sync(engine, policy, untied_model, checkpoint, reference, version=1)
        await _check_waiting_requests(engine, policy, untied_model, checkpoint, reference, version=10)
        weights = checkpoint(untied_model)
        del weights["model.layers.1.self_attn.k_proj.weight"]
        with pytest.raises(
            SyncError, match=r"left out parameters of the engine: model\.layers\.1\.self_attn\.qkv_proj"
        ):
            await policy.send(3, weights)
        weights = checkpoint(untied_model, noise=0.3, seed=4)
        await policy.send(4, weights)
        assert _difference(await engine.score(SEQUENCES), reference(untied_model, weights, SEQUENCES)) <= 1e-5


async def test_fused_experts_are_synced_under_checkpoint_names(
    start_engine, policy_of, moe_model, checkpoint, reference
):
    async with start_engine(moe_model, name="moe") as engine:
        policy = policy_of(engine)
        await _check_sync(engine, policy, moe_model, checkpoint, reference, version=1)
        weights = checkpoint(moe_model)
        del weights["model.layers.0.mlp.experts.2.up_proj.weight"]
        with pytest.raises(SyncError, match=r"left out parameters of the engine: model\.layers\.0\.mlp\.experts"):
            await policy.send(3, weights)
        weights = checkpoint(moe_model, noise=0.3, seed=4)
        await policy.send(4, weights)
        assert _difference(await engine.score(SEQUENCES), reference(moe_model, weights, SEQUENCES)) <= 1e-5


async def test_two_workers_of_an_engine_are_synced(start_engine, policy_of, tiny_model, checkpoint, reference):
    async with start_engine(tiny_model, name="parallel", tensor_parallel=2) as engine:
        assert engine.workers == 2
        policy = policy_of(engine)
        await _check_sync(engine, policy, tiny_model, checkpoint, reference, version=1)
