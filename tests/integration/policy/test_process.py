"""The policy from the controller's side: real processes, torch elastic and FSDP2 over gloo."""

from __future__ import annotations

import asyncio
import json
import re
import shutil

import psutil
import pytest
import torch
from safetensors.torch import load_file

from rlx.errors import PeerFailed
from rlx.files import file_sum
from rlx.sync import transfer_group
from rlx.sync.buckets import receive_buckets
from rlx.sync.digests import digest
from rlx.sync.encoded_digests import encode
from rlx.transport.messages import (
    EvalRows,
    Export,
    InitTransfer,
    OpenTransfer,
    SaveCheckpoint,
    ScoreTokens,
    SendWeights,
    TrainStep,
    WeightPlan,
    WeightsSent,
)

pytestmark = pytest.mark.timeout(600)


async def _exported(controller, path, checkpoint=None):
    await controller.ask(Export(str(path), str(checkpoint) if checkpoint else None))
    return load_file(path / "model.safetensors")


@pytest.mark.parametrize("parallel", [{"dp_shard": 2}, {"pp": 2}])
async def test_a_resumed_run_equals_the_uninterrupted_run_bit_for_bit(policy, tied, groups, parallel, tmp_path):
    tables = {"policy": {"parallel": parallel}}
    async with policy(tied, **tables) as controller:
        for step in range(4):
            if step == 2:
                # Answered when the copy is made: the steps after it are trained while it is written.
                await controller.ask(SaveCheckpoint(str(tmp_path / "saved" / "policy"), 2))
                earlier = await _exported(controller, tmp_path / "earlier")
            await controller.train(step, groups(step))
        uninterrupted = await _exported(controller, tmp_path / "uninterrupted")
        written = await asyncio.wait_for(controller.written.get(), 30)
        await controller.stop()
    assert (written.step, written.error) == (2, "")
    folder = tmp_path / "saved" / "policy"
    assert written.files == {path.name: file_sum(path) for path in folder.iterdir()}
    assert len(list(folder.glob("rank_*.safetensors"))) == 2
    async with policy(tied, resume=tmp_path / "saved", **tables) as controller:
        assert controller.ready.result().step == 2
        for step in (2, 3):
            await controller.train(step, groups(step))
        resumed = await _exported(controller, tmp_path / "resumed")
        back = await _exported(controller, tmp_path / "back", checkpoint=tmp_path / "saved" / "policy")
        await controller.stop()
    for name in uninterrupted:
        assert torch.equal(uninterrupted[name], resumed[name]), name
        assert torch.equal(earlier[name], back[name]), name
    assert any(not torch.equal(earlier[name], uninterrupted[name]) for name in uninterrupted)


async def test_a_reference_model_in_stages_has_the_first_weights(policy, tied, groups):
    tables = {"policy": {"parallel": {"pp": 2}}, "algorithm": {"name": "grpo", "args": {"kl_coef": 0.1}}}
    async with policy(tied, **tables) as controller:
        first, second = [(await controller.train(step, groups(0))).metrics["kl/reference"] for step in range(2)]
        await controller.stop()
    assert first == 0
    assert second > 0


async def test_weights_are_sent_under_checkpoint_names(policy, untied, sequences):
    async with policy(untied, rollout={"dtype": "bfloat16"}) as controller:
        opened = await controller.ask(OpenTransfer(2, 30))
        manifest = await controller.ask(WeightPlan())
        init = InitTransfer(opened.host, opened.port, 2, 0, opened.backend, 30, manifest.buckets)
        receiver = asyncio.to_thread(transfer_group.join, opened.host, opened.port, 1, 2, opened.backend, 30)
        group, _ = await asyncio.gather(receiver, controller.ask(init))

        def receive():
            buckets = receive_buckets(group, 0, manifest.buckets)
            return {name: tensor.clone() for bucket in buckets for name, tensor in bucket}

        got, sent = await asyncio.gather(asyncio.to_thread(receive), controller.ask(SendWeights(0)))
        before = load_file(untied / "model.safetensors")
        assert got.keys() == before.keys()
        # In the order in which they were sent.
        assert sent == WeightsSent(0, encode(digest(tensor) for tensor in got.values()), [])
        assert sum(tensor.nbytes for tensor in got.values()) == 2 * sum(tensor.numel() for tensor in before.values())
        for name, tensor in before.items():
            assert torch.equal(got[name], tensor.to(torch.bfloat16))
        scores = await controller.ask(ScoreTokens(0, sequences))
        assert [len(row) / 4 for row in scores.logprobs] == [len(tokens) - 1 for tokens in sequences]
        with pytest.raises(PeerFailed, match="asked for the weights of step 1, but has made 0 steps"):
            await controller.ask(SendWeights(1))


async def test_sft_learns_from_dataset_rows(policy, tied):
    tables = {"policy": {"groups_per_step": 16, "optimizer": {"lr": 3e-3}}, "plugins": {"enable": ["./hooks.py:Watch"]}}
    dataset = {"name": "arithmetic"}
    async with policy(tied, rollouts=False, dataset=dataset, eval={"dataset": dataset}, **tables) as controller:
        ready = controller.ready.result()
        assert ready.data.train.size > 16
        assert ready.data.held_out == ready.data.train
        assert {name: calls for name, (_, calls) in ready.costs.items()} == {
            "hook/./hooks.py:Watch/rlx_worker_start": 2,
            "hook/./hooks.py:Watch/rlx_model_built": 2,
        }
        before = await controller.ask(EvalRows(list(range(16))))
        for step in range(5):
            done = await controller.ask(TrainStep(step, rows=list(range(16))))
        after = await controller.ask(EvalRows(list(range(16))))
        assert (after.metrics["eval/rows"], after.metrics["eval/dropped"]) == (16, 0)
        assert after.metrics["eval/loss"] < before.metrics["eval/loss"] - 0.2
        assert not any(name.startswith("mismatch/") for name in done.metrics)
        assert await controller.stop() == 0


@pytest.mark.parametrize("ranks", [1, 2])
async def test_a_rank_that_raises_is_reported_with_its_message(policy, tied, groups, ranks, tmp_path):
    (tmp_path / "file").write_text("a file where a folder must be made")
    async with policy(tied, ranks=ranks) as controller:
        with pytest.raises(PeerFailed, match=r"NotADirectoryError|FileExistsError"):
            await controller.ask(SaveCheckpoint(str(tmp_path / "file" / "policy"), 0))
        failed = await asyncio.wait_for(controller.failed, 20)
        assert "file" in failed.error
        assert await asyncio.wait_for(controller.process.wait(), 30) == 1
        log = (controller.run_dir / "logs" / "policy.log").read_text()
        assert re.search(r"policy rank \d ended with exit code 1: \w+Error: .*\nIts log: .*/rank_\d.log", log)


async def test_a_failure_of_rank_1_only_is_reported_with_its_message(policy, tied):
    rows = {"name": "./rows.py:UnevenRows"}
    tables = {"dataset": rows | {"on_bad_row": "fail"}, "eval": {"dataset": rows}}
    async with policy(tied, rollouts=False, **tables) as controller:
        measured = await controller.ask(EvalRows([0, 1, 2]))
        assert (measured.metrics["eval/rows"], measured.metrics["eval/dropped"]) == (2, 1)
        assert [(bad.row, bad.reason) for bad in measured.bad_rows] == [(1, "dataset")], "dropped on every rank"
        await controller.server.notify("policy", TrainStep(0, rows=[0, 1]))
        failed = await asyncio.wait_for(controller.failed, 60)
        assert failed.error.startswith("policy rank 1: ")
        assert "rank 1 has no such row" in failed.error
        assert await asyncio.wait_for(controller.process.wait(), 40) != 0


async def test_ranks_that_see_different_rows_end_the_policy_before_the_first_step(policy, tied):
    async with policy(tied, rollouts=False, dataset={"name": "./rows.py:DifferentRows"}) as controller:
        failed = await asyncio.wait_for(controller.failed, 60)
        assert "policy ranks 0 and 1 do not see the same dataset; they differ in row 31 of 40" in failed.error
        assert await asyncio.wait_for(controller.process.wait(), 40) != 0


async def test_a_rank_that_is_killed_ends_the_policy(policy, tied):
    async with policy(tied) as controller:
        below = psutil.Process(controller.process.pid).children(recursive=True)
        (victim,) = (process for process in below if process.name() == "rlx-rank-0")
        victim.kill()
        assert await asyncio.wait_for(controller.process.wait(), 40) == 1
        assert "was killed by signal 9" in (controller.run_dir / "logs" / "policy.log").read_text()


async def test_a_model_that_does_not_fit_its_config_ends_the_policy_with_a_usage_error(policy, untied, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(untied, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 97}))
    async with policy(folder, ranks=1) as controller:
        failed = await asyncio.wait_for(controller.failed, 20)
        assert "according to config.json it must be [64, 97]" in failed.error
        assert await asyncio.wait_for(controller.process.wait(), 40) == 2


async def test_a_model_that_changes_hidden_states_between_stages_is_refused(policy, untied, tmp_path):
    from transformers import GraniteConfig, GraniteForCausalLM

    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = GraniteConfig(vocab_size=128, num_key_value_heads=2, embedding_multiplier=12.0, **shape)
    shutil.copytree(untied, tmp_path / "model")
    GraniteForCausalLM(config).save_pretrained(tmp_path / "model")
    async with policy(tmp_path / "model", policy={"parallel": {"pp": 2}}) as controller:
        failed = await asyncio.wait_for(controller.failed, 20)
        assert "pp = 2, and it changes hidden states between its embedding, its layers" in failed.error
        assert await asyncio.wait_for(controller.process.wait(), 40) == 2
