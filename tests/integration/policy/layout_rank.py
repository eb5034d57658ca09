"""Train the same few steps under one layout after another: `layout_rank.py WORLDS.json`.

A world is a group of ranks and a list of jobs, which the ranks do in turn. A job is {"name", "model", "model_plugin",
"policy": keys of `[policy]`, "steps": [first, last), "load": a checkpoint or null, "save": whether to write one,
"balance": whether the load of experts is balanced, "out": a folder}. A job with "measure" trains nothing: it measures
the memory that sending the weights takes. Ranks are forked from one process that has imported everything.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from math import prod
from pathlib import Path

import msgspec
import torch
import transformers.models.qwen3.modeling_qwen3
import transformers.models.qwen3_moe.modeling_qwen3_moe  # noqa: F401 - imported once, before ranks are forked
from safetensors.torch import save_file
from torch.distributed import TCPStore
from torch.distributed.tensor import DTensor

from rlx.algorithms.grpo import GRPO
from rlx.config.schema import Config
from rlx.config.sections.policy import PolicyConfig
from rlx.episodes import Episode, Reward, single_turn
from rlx.platform import PLATFORMS
from rlx.policy.build import build_policy
from rlx.policy.parallel.mesh import join_ranks
from rlx.policy.parallel.pipeline import stage_parameters
from rlx.policy.parallel.tensors import gather_full, named_tensors
from rlx.policy.train.optimizer import Optimizer
from rlx.policy.train.trainer import Trainer
from rlx.policy.weights import checkpoint
from rlx.policy.weights.full_weights import FullWeights
from rlx.policy.weights.hf_folder import load_hf_config
from rlx.policy.weights.writer import save
from rlx.sync import transfer_group
from rlx.sync.buckets import bucket_bytes, manifest_of, receive_buckets
from rlx.sync.sender import Sender
from rlx.transport.messages import InitTransfer, OpenTransfer, TensorMeta
from rlx_models.hf import plugin
from rlx_plugin_deepseek.hooks import BiasUpdate
from rlx_plugin_deepseek.plugin import plugin as deepseek_plugin

POLICY = {
    "dtype": "float32",
    "max_tokens_per_microbatch": 64,
    # Every step is clipped: a gradient that only one layout gets wrong moves all weights. With AdamW's default epsilon,
    # 1e-8, an element whose gradient is all rounding would still move, by a random distance: one such element in 8,192
    # was seen to make a tensor differ by 5e-5.
    "optimizer": {"lr": 1e-3, "max_grad_norm": 0.05, "weight_decay": 0.1, "eps": 1e-6},
}
LOAD = ("experts/max_violation", "experts/idle")
METRICS = (
    "loss",
    "grad_norm",
    "entropy",
    "mismatch/kl",
    "mismatch/logprob_diff_max",
    "tokens/trained",
    "microbatches",
)
SECONDS = 60.0


def groups(step):
    """Return six ragged groups of four. Prompts, and the way rows are cut into micro-batches, differ between steps.

    Longer completions get higher rewards: if the losses of tokens cancelled each other out, only rounding would remain.
    """
    draw = random.Random(step)
    groups = []
    for group in range(6):
        prompt = [draw.randrange(3, 80) for _ in range(draw.randrange(3, 9))]
        episodes = []
        for sample in range(4):
            tokens = [draw.randrange(3, 80) for _ in range(draw.randrange(1, 9))]
            trajectory = single_turn(prompt, tokens, logprobs=[draw.uniform(-5.5, -4) for _ in tokens])
            rewards = [Reward("x", len(tokens) + draw.random())]
            episodes.append(Episode(group, sample, group, [trajectory], rewards=rewards))
        groups.append(episodes)
    return groups


def build(job):
    config = PolicyConfig.model_validate({**POLICY, **job["policy"]})
    world = join_ranks(PLATFORMS["cpu"], config.parallel)
    folder = Path(job["model"])
    model = Config.model_validate({"model": {"path": str(folder)}, "dataset": {"name": "none"}}).model
    hf_config = load_hf_config(model, folder)
    model_plugin = deepseek_plugin if job["model_plugin"] == "deepseek" else plugin
    built = build_policy(model_plugin, hf_config, folder, world, config, 1.0)
    assert built.model.packing == config.packing
    full_weights = FullWeights(built, torch.bfloat16)
    return config, world, built, full_weights, Sender(manifest_of(full_weights.meta_buckets()), world.rank, "gloo")


def train(job):
    config, world, built, full_weights, sender = build(job)
    out = Path(job["out"])
    if job["balance"]:
        BiasUpdate().rlx_model_built(built.network)
    optimizer = Optimizer(stage_parameters(built.network), config.optimizer, 10, built.stage, built.tied)
    trainer = Trainer(world, built.model, optimizer, GRPO(), config)
    if job["load"] is not None:
        trainer.step = checkpoint.load(Path(job["load"]), world, built.network, optimizer)
    before = receive_from(world, full_weights, sender, trainer.step)
    positions = watch_positions(built.network)
    metrics = [trainer.train(groups(step)) for step in range(*job["steps"])]
    scores = trainer.score([episode.trajectories[0].tokens for group in groups(99) for episode in group])
    after = receive_from(world, full_weights, sender, trainer.step)
    weights = {name: tensor.clone() for bucket in FullWeights(built, None).buckets() for name, tensor in bucket}
    assert_copies_agree(built)
    if job["save"]:
        save(out / "checkpoint", world, built, optimizer, trainer.step)
    if world.rank == 0:
        for name, tensors in (("before", before), ("after", after), ("weights", weights)):
            save_file(tensors, out / f"{name}.safetensors")
        kept = [{name: step[name] for name in (*METRICS, *LOAD) if name in step} for step in metrics]
        numbers = sum(local(tensor).numel() for tensor in stage_parameters(built.network).values())
        results = {
            "metrics": kept,
            "scores": scores,
            "positions": positions,
            "numbers": [numbers, built.num_parameters],
        }
        (out / "metrics.json").write_text(json.dumps(results))
    world.close()


def watch_positions(network):
    """Return a dict that will hold, for each norm and linear layer, the most positions of any of its inputs."""
    seen = {}
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Linear) or name.endswith("norm"):

            def record(_module, args, name=name):
                seen[name] = max(seen.get(name, 0), args[0].shape[-2])

            module.register_forward_pre_hook(record)
    return seen


def local(tensor):
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def assert_copies_agree(built):
    """Assert that a tensor that several stages hold is the same on each of them, bit for bit."""
    tensors = named_tensors(built.network)
    for name in built.tied:
        held = not tensors[name].is_meta
        own = gather_full(tensors[name]) if held else torch.empty(tensors[name].shape)
        owners = built.stage.broadcast_from(built.owner_stage(name), own.clone())
        assert not held or torch.equal(own, owners), name


def receive_from(world, full_weights, sender, version):
    """Send the weights, and return on rank 0 what an engine receives: a thread of rank 0 stands in for the engine."""
    opened = sender.open(OpenTransfer(2, SECONDS))
    address = (opened.host, opened.port, 2)
    if world.rank:
        sender.join(InitTransfer(*address, 0, "gloo", SECONDS, sender.manifest))
        sender.send(version, full_weights.buckets())
        return {}

    def receive():
        return {
            name: t.clone() for tensors in engine_buckets(opened.port, version, sender.manifest) for name, t in tensors
        }

    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(receive)
        sender.join(InitTransfer(*address, 0, "gloo", SECONDS, sender.manifest))
        sender.send(version, full_weights.buckets())
        return receiving.result()


def engine_buckets(port, version, manifest):
    group = transfer_group.join("127.0.0.1", port, 1, 2, "gloo", SECONDS)
    yield from receive_buckets(group, version, manifest)
    group.close()


def measure(job):
    """Measure the most memory that sending takes on this rank; the engine is a process of its own."""
    # Return each large tensor to the system when it is freed: -3 is M_MMAP_THRESHOLD.
    ctypes.CDLL(None).mallopt(-3, 65536)
    _, world, _, full_weights, sender = build(job)
    opened = sender.open(OpenTransfer(2, SECONDS))
    if world.rank == 0:
        transfer = Path(job["out"]) / "transfer"
        transfer.write_bytes(msgspec.json.encode((opened.port, sender.manifest)))
        transfer.rename(transfer.with_suffix(".json"))
    sender.join(InitTransfer(opened.host, opened.port, 2, 0, "gloo", SECONDS, sender.manifest))
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    sender.send(0, full_weights.buckets())
    sizes = [bucket_bytes(metas) for metas in sender.manifest]
    (Path(job["out"]) / f"peak_{world.rank}.json").write_text(json.dumps([status_bytes("VmHWM") - before, sizes]))
    world.close()


def status_bytes(field):
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def engine_main(job):
    transfer = Path(job["out"]) / "transfer.json"
    while not transfer.exists():
        time.sleep(0.01)
    port, manifest = msgspec.json.decode(transfer.read_bytes(), type=tuple[int, list[list[TensorMeta]]])
    for tensors in engine_buckets(port, 0, manifest):
        assert list(tensors)


def rank_main(rank, ranks, ports, jobs):
    log = os.open(Path(jobs[0]["out"]) / f"rank_{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for port, job in zip(ports, jobs, strict=True):
        rendezvous = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": ranks,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        os.environ.update({name: str(value) for name, value in rendezvous.items()})
        (measure if job["measure"] else train)(job)


def spawn(function, *arguments):
    """Fork a process that calls `function`, and return its pid."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def serve_stores(count, pipe):
    """Serve a store for each job, so that no job sees the keys of another.

    Runs in a process of its own because stores have threads: a rank forked from a process with threads may wait forever
    for a lock that one of them held.
    """
    stores = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(count)]
    os.write(pipe, json.dumps([store.port for store in stores]).encode() + b"\n")
    signal.pause()


def run(jobs):
    """Run one world, from the start of its first rank to the end of its last one."""
    ranks = prod(jobs[0]["policy"].get("parallel", {}).values())
    reader, writer = os.pipe()
    server = spawn(serve_stores, len(jobs), writer)
    with os.fdopen(reader) as lines:
        ports = json.loads(lines.readline())
    os.close(writer)
    pids = {spawn(rank_main, rank, ranks, ports, jobs) for rank in range(ranks)}
    pids |= {spawn(engine_main, job) for job in jobs if job["measure"]}
    try:
        wait(pids, jobs)
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


def wait(pids, jobs):
    while pids:
        pid, status = os.wait()
        pids.discard(pid)
        if status:
            for other in pids:
                os.kill(other, signal.SIGKILL)
            raise SystemExit("\n".join(log.read_text() for log in Path(jobs[0]["out"]).glob("rank_*.log")))


def main():
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", TORCHELASTIC_RESTART_COUNT="0")
    torch.set_num_threads(1)
    for jobs in json.loads(Path(sys.argv[1]).read_text()):
        run(jobs)


if __name__ == "__main__":
    main()
