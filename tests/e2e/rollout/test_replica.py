"""A whole replica process; the test acts as the controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from textwrap import dedent

import numpy as np
import psutil
import pytest
import pytest_asyncio

from rlx.boot import Boot, Endpoint, encode_boot, frame_blob
from rlx.config.schema import Config
from rlx.episodes import decode_episodes
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.sync import transfer_group
from rlx.sync.buckets import manifest_of, send_buckets
from rlx.transport.keys import RunKeys
from rlx.transport.messages import (
    Failed,
    GroupDone,
    GroupFailed,
    InitTransfer,
    Lease,
    Leases,
    Ok,
    ReceiveWeights,
    RolloutReady,
    RolloutStats,
    Stop,
)
from rlx.transport.server import Server

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

PLUGINS = """
import time
import rlx

class Rows:
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return f"{index}+{index}="
    def get_reference_answer(self, index):
        return index

def judge(to_be_evaluated, reference=None, **kwargs):
    if reference == 1:
        raise ValueError("no idea")
    if reference == 2:
        time.sleep(3)
    return float(reference), {"length": len(to_be_evaluated)}

class Hooks:
    @rlx.hookimpl
    def rlx_group_scored(self, group):
        for episode in group:
            episode.metrics["seen_by_hook"] = 1.0

hooks = Hooks()
"""


class Controller:
    """The controller's end of a replica: its server, the replica's process, and the messages that came."""

    def __init__(self, server, process, log):
        self.server, self.process, self.log = server, process, log
        self.inbox = asyncio.Queue()

    async def handle(self, name, message):
        assert name == "rollout-0"
        self.inbox.put_nowait(message)
        return Ok()

    async def expect(self, kind, seconds=120.0):
        """Return the next message of this kind. Drops others, but raises on an unexpected failure."""
        try:
            async with asyncio.timeout(seconds):
                while not isinstance(message := await self.inbox.get(), kind):
                    assert not isinstance(message, Failed | GroupFailed), message
        except TimeoutError:
            pytest.fail(f"no {kind} came; the end of the replica's log: {self.log.read_text()[-3000:]}")
        return message

    async def ask(self, message):
        return await self.server.request("rollout-0", message, timeout=60, what=type(message).__name__)

    async def exit_code(self):
        return await asyncio.to_thread(self.process.wait, 60)


@pytest.fixture
def boot_of(tmp_path, tiny_model):
    """`boot_of(port, keys)`: boot data of a replica whose plugins are those above."""

    def make(port, keys):
        (tmp_path / "plugins.py").write_text(dedent(PLUGINS))
        names = {"datasets": "./plugins.py:Rows", "rewards": "./plugins.py:judge", "packers": "decoder_only_llm"}
        names["hooks"] = "./plugins.py:hooks"
        records = [resolve(kind, name, discover(), tmp_path) for kind, name in names.items()]
        config = Config.model_validate(
            {
                "model": {"path": str(tiny_model)},
                "dataset": {"name": names["datasets"]},
                "rewards": [{"name": names["rewards"], "on_error": "drop"}],
                "rollout": {"dtype": "float32", "max_tokens": 8, "reward_workers": 3, "vllm": {"max_model_len": 128}},
                "plugins": {"enable": [names["hooks"]]},
                "eval": {"dataset": {"name": names["datasets"]}, "temperature": 0.0, "max_tokens": 3},
            }
        )
        client = keys.clients["rollout-0"]
        endpoint = Endpoint("127.0.0.1", port, keys.server.public, client.public, client.secret)
        return Boot(
            kind="rollout", name="rollout-0", index=0, attempt=1, run_dir=str(tmp_path), base_dir=str(tmp_path),
            config=config.model_dump(by_alias=True, mode="json"), plugins=records, rollouts=True, endpoint=endpoint,
        )  # fmt: skip

    return make


@pytest_asyncio.fixture(loop_scope="session")
async def controller(boot_of, tmp_path):
    keys = RunKeys.make(["rollout-0"])
    made = Controller(None, None, tmp_path / "log")
    endpoint = Endpoint("127.0.0.1", 0, keys.server.public, keys.server.public, keys.server.secret)
    made.server = Server(endpoint, keys.client_keys, made.handle)
    made.process = _start(boot_of(await made.server.start(), keys), made.log)
    yield made
    left = psutil.Process(made.process.pid).children(recursive=True) if made.process.poll() is None else []
    made.process.kill()
    for child in left:
        child.kill()
    made.process.wait()
    made.process.stdin.close()
    await made.server.close()


def _start(boot, log):
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlx.proc", "rollout"], stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    process.stdin.write(frame_blob(encode_boot(boot)))
    process.stdin.flush()
    return process


async def _receive(controller, version, weights, probe):
    _store, port = transfer_group.open_store("127.0.0.1", 2, 60)
    joining = asyncio.to_thread(transfer_group.join, "127.0.0.1", port, 0, 2, "gloo", 60)
    buckets = manifest_of([weights.items()])
    joined = controller.ask(InitTransfer("127.0.0.1", port, 2, 1, "gloo", 60.0, buckets))
    group, _ = await asyncio.gather(joining, joined)
    sending = asyncio.to_thread(send_buckets, group, version, buckets, [list(weights.values())])
    _, received = await asyncio.gather(sending, controller.ask(ReceiveWeights(version, 60.0, probe)))
    return received


async def test_a_replica_from_ready_to_stop(controller, tiny_model, checkpoint, reference):
    ready = await controller.expect(RolloutReady)
    assert (ready.data.train.size, ready.data.held_out.size, ready.workers) == (6, 6, 1)
    assert [len(probe) for probe in ready.probe_tokens] == [4, 4, 4, 4]

    weights = checkpoint(tiny_model, noise=0.1, seed=4)
    received = await _receive(controller, 3, weights, ready.probe_tokens)
    assert received.version == 3
    rows = [np.frombuffer(row, np.float32) for row in received.logprobs]
    for row, wanted in zip(rows, reference(tiny_model, weights, ready.probe_tokens), strict=True):
        assert row == pytest.approx(wanted, abs=1e-5)

    # Scoring row 2 takes seconds, and scoring row 1 fails: neither delays the others.
    leases = [Lease(group_id=10 + index, index=index, samples=2, version=3, seed=5) for index in range(5)]
    await controller.server.notify("rollout-0", Leases(leases, barrier=True, seed=9))
    answers = [await controller.expect((GroupDone, GroupFailed)) for _ in leases]
    assert answers[-1].group_id == 12
    by_id = {answer.group_id: answer for answer in answers}
    failed = by_id.pop(11)
    assert isinstance(failed, GroupFailed)
    assert failed.drop
    assert "no idea" in failed.error
    assert "judge" in failed.owner
    for group_id, done in by_id.items():
        _check_group(done, group_id, tiny_model)
    costs = [answer.costs for answer in answers]
    assert sum(cost.get("reward/judge", (0.0, 0))[1] for cost in costs) == 10
    assert sum(cost.get("reward/judge", (0.0, 0))[0] for cost in costs) > 6, "two calls slept for 3 s"
    assert sum(cost.get("hook/./plugins.py:hooks/rlx_group_scored", (0.0, 0))[1] for cost in costs) == 4

    await controller.server.notify("rollout-0", Leases([Lease(3, 3, 2, 3, 5, kind="eval")]))
    evaluated = await controller.expect(GroupDone)
    one, other = decode_episodes(evaluated.payload)
    assert evaluated.kind == "eval"
    assert one.trajectories == other.trajectories, "temperature 0 is greedy"
    assert max(evaluated.lengths) <= 3

    stats = await controller.expect(RolloutStats)
    while stats.oldest_stage:  # empty once no group is sampled or scored
        stats = await controller.expect(RolloutStats)
    assert stats.busy_seconds > 0
    # Group 11 was sampled and then dropped: 2 to 16 tokens that no message reported.
    assert 2 <= stats.tokens - sum(done.tokens for done in by_id.values()) - evaluated.tokens <= 16

    children = psutil.Process(controller.process.pid).children(recursive=True)
    assert children
    await controller.ask(Stop())
    assert await controller.exit_code() == 0, controller.log.read_text()[-3000:]
    assert not await asyncio.to_thread(_left_of, children, 10)


def _left_of(processes, seconds):
    """Wait, and return the processes that are left: Python's resource tracker ends a moment after its parent."""
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if _lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _lives(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _check_group(done, group_id, tiny_model):
    assert isinstance(done, GroupDone)
    index = group_id - 10
    assert (done.kind, done.index, done.oldest_version, done.prompt_tokens) == ("train", index, 3, 4)
    assert done.rewards == done.accuracies == [float(index)] * 2
    assert done.reward_means == {"judge": float(index)}
    assert done.metrics["seen_by_hook"] == 1.0
    episodes = decode_episodes(done.payload)
    assert [episode.sample for episode in episodes] == [0, 1]
    for episode, length in zip(episodes, done.lengths, strict=True):
        prompt, sampled = episode.trajectories[0].segments
        assert episode.prompt_text == f"{index}+{index}="
        assert len(prompt.tokens) == 4
        assert 1 <= len(sampled.tokens) == len(sampled.logprobs) == length <= 8
        assert [(span.version, span.length) for span in sampled.versions] == [(3, length)]
        assert "<eos>" not in episode.text
        assert episode.stop_reason == ("stop" if sampled.tokens[-1] == 1 else "length")
    assert done.truncated == sum(episode.stop_reason == "length" for episode in episodes)
    assert done.tokens == sum(done.lengths)


async def test_a_dead_engine_is_reported_and_ends_the_replica(controller):
    await controller.expect(RolloutReady)
    children = psutil.Process(controller.process.pid).children()
    # The other children are reward processes; the engine's core is the largest.
    core = max(children, key=lambda child: child.memory_info().rss)
    os.kill(core.pid, signal.SIGKILL)
    failed = await controller.expect(Failed, seconds=20)
    assert failed.owner == "vLLM engine of rollout-0"
    assert "vLLM engine of rollout-0 died" in failed.error
    assert await controller.exit_code() == 1
    assert "ProcessDied" in controller.log.read_text()
