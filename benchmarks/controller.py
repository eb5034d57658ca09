"""Measure the controller alone: groups per second, and its CPU time per group with 10, 100 and 1,000 replicas.

The controller process, the channels (CurveZMQ over loopback) and the ledger are real. Replicas and policy are simulated
in this process, and answer at once. A group has 8 completions of 256 tokens. CPU time is comparable on a busy machine.

A weight sync with its verification, and a message with leases, take time per replica, not per group. So the last lines
split the time of a step into a part per group and a part per replica (least squares over the table), and give the time
of the report that every replica sends about once a second.

    python benchmarks/controller.py [--replicas 10 100 1000] [--groups 2000 6000] [--steps 7] [--trajectories]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import zmq

from rlx.boot import Boot, decode_boot, encode_boot
from rlx.config.schema import Config
from rlx.controller import process
from rlx.controller.modes import trajectory_writer
from rlx.episodes import Episode, Reward, VersionSpan, encode_episodes, single_turn
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.sync.logprob_diff import pack_logprobs
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys
from rlx.transport.messages import (
    CheckpointWritten,
    GroupDone,
    Leases,
    Message,
    Ok,
    OpenTransfer,
    PolicyReady,
    ReceiveWeights,
    RolloutReady,
    RolloutStats,
    RunEnded,
    SaveCheckpoint,
    ScoreTokens,
    SendWeights,
    StepDone,
    StepMetrics,
    TensorMeta,
    TokenScores,
    TrainStep,
    TransferOpened,
    WeightManifest,
    WeightPlan,
    WeightsReceived,
    WeightsSent,
)

SAMPLES, TOKENS = 8, 256
REPORTS = 20_000
MANIFEST = [[TensorMeta(f"model.layers.{i}.{j}.weight", "float32", [576, 576]) for j in range(9)] for i in range(30)]
KEPT: list[Peers] = []
"""Keeps the peers alive: a ZeroMQ context that is garbage-collected waits forever for its sockets to close."""


def make_payload() -> bytes:
    rng = random.Random(0)
    episodes = []
    for sample in range(SAMPLES):
        tokens = [rng.randrange(49152) for _ in range(TOKENS)]
        logprobs = [-rng.random() for _ in tokens]
        trajectory = single_turn([1] * 40, tokens, logprobs=logprobs, versions=[VersionSpan(0, TOKENS)])
        episodes.append(Episode(0, sample, 0, [trajectory], "x" * 800, "y" * 100, [Reward("r", 1.0)]))
    return encode_episodes(episodes)


class Peers:
    """The simulated peers of a run. All clients share one ZeroMQ context."""

    def __init__(self, keys: RunKeys, replicas: int, port: int, steps: int) -> None:
        self.payload = make_payload()
        self.context = zmq.Context(2)
        self.context.set(zmq.MAX_SOCKETS, replicas + 100)
        self.keys, self.port, self.replicas, self.steps = keys, port, replicas, steps
        self.clients: dict[str, Client] = {}
        self.report_seconds = 0.0
        self.marks: list[tuple[float, float]] = []
        self.ended = asyncio.Event()
        self.error = ""
        self.writing: asyncio.Task[None] | None = None
        self.controller: psutil.Process | None = None

    async def connect(self) -> None:
        for name in ("launcher", "policy", *(f"rollout-{index}" for index in range(self.replicas))):
            client = Client(self.keys.endpoint(name, "127.0.0.1", self.port), name, 0, self.handler(name))
            client._context.term()  # noqa: SLF001 - a thousand clients share one set of I/O threads here
            client._context = self.context  # noqa: SLF001
            self.clients[name] = client
            await client.connect(60)
        ready = RolloutReady(Fingerprints(Fingerprint(100_000, ["f", "g"])), 1, [[1, 2, 3, 4]])
        await self.clients["policy"].request(PolicyReady(0), timeout=60, what="ready")
        for name, client in self.clients.items():
            if name.startswith("rollout"):
                await client.request(ready, timeout=60, what="ready")

    def handler(self, name: str):
        async def handle(message: Message) -> Message:
            if name == "launcher":
                return self.launcher(message)
            return await (self.rollout(name, message) if name.startswith("rollout") else self.policy(message))

        return handle

    def launcher(self, message: Message) -> Message:
        if isinstance(message, StepMetrics):
            self.marks.append((time.perf_counter(), self.cpu_seconds()))
        if isinstance(message, RunEnded):
            self.error = message.error
            self.ended.set()
        return Ok()

    def cpu_seconds(self) -> float:
        assert self.controller is not None
        cpu = self.controller.cpu_times()
        return float(cpu.user + cpu.system)

    async def rollout(self, name: str, message: Message) -> Message:
        match message:
            case Leases():
                for lease in message.leases:
                    await self.clients[name].notify(self.group_done(lease.group_id, lease.index, lease.version))
            case ReceiveWeights():
                return WeightsReceived(message.version, 0.0, 0, scores(message.probe))
        return Ok()

    def group_done(self, group_id: int, index: int, version: int) -> GroupDone:
        rewards: list[float | None] = [1.0, 0.0] * (SAMPLES // 2)
        return GroupDone(
            group_id=group_id,
            kind="train",
            index=index,
            oldest_version=version,
            tokens=SAMPLES * TOKENS,
            prompt_tokens=40,
            rewards=rewards,
            accuracies=rewards,
            reward_means={"r": 0.5},
            lengths=[TOKENS] * SAMPLES,
            truncated=0,
            metrics={},
            generate_seconds=1.0,
            score_seconds=0.1,
            payload=self.payload,
        )

    async def policy(self, message: Message) -> Message:
        match message:
            case OpenTransfer():
                return TransferOpened("127.0.0.1", 1, "gloo")
            case WeightPlan():
                return WeightManifest(MANIFEST)
            case SendWeights():
                return WeightsSent(message.version)
            case ScoreTokens():
                return TokenScores(message.version, scores(message.tokens))
            case TrainStep():
                if message.step == self.steps - 1:
                    await self.report()
                return StepDone(message.step, {"loss": 0.0}, 0.0, [[0.0] * SAMPLES] * len(message.payloads))
            case SaveCheckpoint():
                await asyncio.to_thread(Path(message.path).mkdir, parents=True, exist_ok=True)
                self.writing = asyncio.create_task(self.written(message.step))
        return Ok()

    async def written(self, step: int) -> None:
        await self.clients["policy"].notify(CheckpointWritten(step, 0.0, {}))

    async def report(self) -> None:
        """Measure the CPU time of a replica's report, in the last step, when no lease is out any more."""
        began = self.cpu_seconds()
        names = itertools.cycle(name for name in self.clients if name.startswith("rollout"))
        for number, name in zip(range(REPORTS), names, strict=False):
            await self.clients[name].notify(RolloutStats(0, 0.0, "", 0.0, number))
            if not number % self.replicas:
                await asyncio.sleep(0)
        await asyncio.sleep(2.0)
        self.report_seconds = (self.cpu_seconds() - began) / REPORTS


def scores(tokens: list[list[int]]) -> list[bytes]:
    return pack_logprobs([[-1.0] * (len(row) - 1) for row in tokens])


def make_boot(run_dir: Path, keys: RunKeys, replicas: int, groups: int, steps: int) -> Boot:
    config = Config.model_validate(
        {
            "model": {"path": "m"},
            "dataset": {"name": "d"},
            "run": {"steps": steps},
            "algorithm": {"group_size": SAMPLES},
            "policy": {"groups_per_step": groups, "dtype": "float32"},
            "rollout": {"replicas": replicas},
            "async": {"max_staleness": 1},
            "checkpoint": {"every": 2, "export": False},
        }
    )
    return Boot(
        kind="controller",
        name="controller",
        index=0,
        attempt=0,
        run_dir=str(run_dir),
        base_dir=str(run_dir),
        config=config.model_dump(by_alias=True, mode="json"),
        plugins=[],
        rollouts=True,
        endpoint=keys.endpoint("controller", "127.0.0.1", 0),
        client_keys=keys.client_keys,
    )


def start_controller(boot: Boot, *, trajectories: bool) -> tuple[subprocess.Popen[bytes], int]:
    command = [sys.executable, __file__, "--controller", *(["--trajectories"] if trajectories else [])]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=(boot.run_path / "controller.log").open("wb"))
    assert child.stdin is not None
    child.stdin.write(encode_boot(boot))
    child.stdin.close()
    port_file = boot.run_path / process.PORT_FILE
    while not port_file.exists():
        if child.poll() is not None:
            sys.exit((boot.run_path / "controller.log").read_text())
        time.sleep(0.05)
    return child, int(port_file.read_text())


@dataclass(frozen=True)
class Measurement:
    """Rates over the steps after the first two (warm-up) and before the last one."""

    replicas: int
    groups: int
    rate: float
    """Groups per second."""
    cpu: float
    """CPU seconds of the controller per step."""
    report: float
    """CPU seconds of the controller per report of a replica."""


async def measure(run_dir: Path, replicas: int, groups: int, steps: int, *, trajectories: bool) -> Measurement:
    keys = RunKeys.make(["launcher", "policy", *(f"rollout-{index}" for index in range(replicas))])
    boot = make_boot(run_dir, keys, replicas, groups, steps)
    child, port = start_controller(boot, trajectories=trajectories)
    peers = Peers(keys, replicas, port, steps)
    KEPT.append(peers)
    peers.controller = psutil.Process(child.pid)
    await peers.connect()
    await asyncio.wait_for(peers.ended.wait(), 600)
    child.wait(60)
    if peers.error:
        sys.exit(peers.error)
    (t0, c0), (t1, c1) = peers.marks[1], peers.marks[-2]
    counted = len(peers.marks) - 3
    return Measurement(replicas, groups, counted * groups / (t1 - t0), (c1 - c0) / counted, peers.report_seconds)


def table(args: argparse.Namespace) -> Iterator[Measurement]:
    print(f"{'groups':>7}  {'replicas':>8}  {'groups/s':>9}  {'CPU us/group':>12}  {'to 10 replicas':>14}")
    for groups in args.groups:
        first = 0.0
        for replicas in args.replicas:
            with tempfile.TemporaryDirectory(prefix="rlx-controller-") as folder:
                work = measure(Path(folder), replicas, groups, args.steps, trajectories=args.trajectories)
                found = asyncio.run(work)
            cost = found.cpu / groups * 1e6
            first = first or cost
            times = f"{cost / first:.2f}x"
            print(f"{groups:>7}  {replicas:>8}  {found.rate:>9,.0f}  {cost:>12.0f}  {times:>14}", flush=True)
            yield found


def parts(found: Sequence[Measurement]) -> str:
    """Split the controller's time per step into its parts, and return them as text."""
    factors = np.array([[1.0, row.replicas / row.groups] for row in found])
    group, replica = np.linalg.lstsq(factors, np.array([row.cpu / row.groups for row in found]))[0] * 1e6
    report = statistics.median(row.report for row in found) * 1e6
    return (
        f"a step: {group:.0f} us for each group, and {replica:.0f} us for each replica\n"
        f"a replica's report: {report:.0f} us"
    )


def run_controller(*, trajectories: bool) -> None:
    boot = decode_boot(sys.stdin.buffer.read())
    if not trajectories:
        trajectory_writer.write_groups = lambda *args, **kwargs: None  # type: ignore[assignment]
    process.main(boot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--groups", type=int, nargs="+", default=[2000, 6000], help="groups a step")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--trajectories", action="store_true", help="write Parquet, too")
    parser.add_argument("--controller", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.controller:
        run_controller(trajectories=args.trajectories)
        return
    size, parquet = len(make_payload()) / 1000, "with" if args.trajectories else "without"
    print(f"{SAMPLES} x {TOKENS} tokens a group ({size:.0f} KB), ledger included, {parquet} Parquet")
    found = list(table(args))
    if len(args.groups) > 1 and len(args.replicas) > 1:
        print(parts(found), flush=True)
    os._exit(0)  # a thousand clients hold sockets that needn't be closed


if __name__ == "__main__":
    main()
