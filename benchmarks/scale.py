"""Simulate a large run: 1,000 replicas, 100,000 prompts in flight, 1 % of the replicas dying each minute.

The controller process, the channels (CurveZMQ over loopback) and the ledger are real, and so is time. Replicas and
policy are simulated in this process. A replica keeps a prompt for a random time, so that as many are in flight as the
window admits (k = 1). A replica that dies loses the prompts that it holds, and is back after five seconds. After the
time given, the run is stopped as by Ctrl-C.

Prints the controller's CPU time and memory, and exits with 1 if a group was lost, trained twice, or trained by another
step than the ledger says.

    python benchmarks/scale.py [--replicas 1000] [--in-flight 100000] [--minutes 5] [--deaths 0.01]
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil
import zmq
from controller import KEPT, Peers, make_boot, start_controller
from msgspec import structs

from rlx.episodes import Episode, Reward, VersionSpan, decode_episodes, encode_episodes, single_turn
from rlx.fingerprint import Fingerprint, Fingerprints
from rlx.transport.client import Client
from rlx.transport.keys import RunKeys
from rlx.transport.messages import (
    Drain,
    GroupDone,
    Lease,
    Leases,
    Message,
    Ok,
    ProcessExited,
    RolloutReady,
    RunEnded,
    StartAgain,
    StepDone,
    StepMetrics,
    TrainStep,
)

SAMPLES, TOKENS = 2, 8
BACK_SECONDS = 5.0
READY = RolloutReady(Fingerprints(Fingerprint(100_000, ["f", "g"])), 1, [[1, 2, 3, 4]])


class DyingPeers(Peers):
    """Peers whose replicas keep each prompt for a while, and die at random."""

    def __init__(self, keys: RunKeys, options: argparse.Namespace, port: int) -> None:
        super().__init__(keys, options.replicas, port, steps=0)
        self.options = options
        self.rng = random.Random(0)
        self.held: dict[str, dict[int, Lease]] = {f"rollout-{index}": {} for index in range(options.replicas)}
        self.attempts = dict.fromkeys(self.held, 1)
        self.due: list[tuple[float, int, str, int]] = []
        self.deaths = self.returns = self.most_in_flight = self.lost_leases = 0
        self.trained: dict[int, int] = {}
        self.twice: Counter[int] = Counter()
        self.steps_done = 0
        self.summary: dict[str, object] = {}
        self.returning: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        return sum(map(len, self.held.values()))

    def launcher(self, message: Message) -> Message:
        match message:
            case StepMetrics():
                self.steps_done += 1
            case StartAgain():
                task = asyncio.create_task(self.come_back(message))
                self.returning.add(task)
                task.add_done_callback(self.returning.discard)
            case RunEnded():
                self.summary, self.error = message.summary, message.error
                self.ended.set()
        return Ok()

    async def rollout(self, name: str, message: Message) -> Message:
        if not isinstance(message, Leases):
            return await super().rollout(name, message)
        for lease in message.leases:
            self.held[name][lease.group_id] = lease
            seconds = self.rng.uniform(0.5, 1.5) * self.options.seconds
            heapq.heappush(self.due, (time.monotonic() + seconds, lease.group_id, name, self.attempts[name]))
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return Ok()

    async def policy(self, message: Message) -> Message:
        if not isinstance(message, TrainStep):
            return await super().policy(message)
        for payload in message.payloads:
            group_id = decode_episodes(payload)[0].group_id
            self.twice[group_id] += group_id in self.trained
            self.trained[group_id] = message.step
        return StepDone(message.step, {"loss": 0.0}, 0.0, [[0.0] * SAMPLES] * len(message.payloads))

    async def finish_due(self) -> None:
        """Send the groups whose time has come, until cancelled."""
        while True:
            while self.due and self.due[0][0] <= time.monotonic():
                _, group_id, name, attempt = heapq.heappop(self.due)
                lease = self.held[name].pop(group_id, None) if self.attempts[name] == attempt else None
                if lease is not None and name in self.clients:
                    await self.clients[name].notify(self.done(lease))
            await asyncio.sleep(0.01)

    def done(self, lease: Lease) -> GroupDone:
        trajectory = single_turn([1] * 4, [2] * TOKENS, logprobs=[-1.0] * TOKENS, versions=[VersionSpan(0, TOKENS)])
        episodes = [
            Episode(lease.group_id, sample, lease.index, [trajectory], "x", "y", [Reward("r", 1.0)])
            for sample in range(SAMPLES)
        ]
        made = self.group_done(lease.group_id, lease.index, lease.version)
        short = {"tokens": SAMPLES * TOKENS, "lengths": [TOKENS] * SAMPLES, "rewards": [1.0, 0.0]}
        return structs.replace(made, payload=encode_episodes(episodes), accuracies=[1.0, 0.0], **short)

    async def die_at_random(self) -> None:
        """Kill replicas at random moments, until cancelled."""
        rate = self.options.deaths * self.options.replicas / 60
        while rate:
            await asyncio.sleep(self.rng.expovariate(rate))
            name = self.rng.choice([name for name in self.held if name in self.clients])
            self.deaths += 1
            self.lost_leases += len(self.held[name])
            self.held[name] = {}
            attempt, self.attempts[name] = self.attempts[name], self.attempts[name] + 1
            client = self.clients.pop(name)
            if client._context is self.context:  # noqa: SLF001 - the context of the others must not end with it
                client._context = zmq.Context()  # noqa: SLF001
            await client.close()
            await self.clients["launcher"].notify(ProcessExited(name, 137, ["killed"], attempt))

    async def come_back(self, message: StartAgain) -> None:
        await asyncio.sleep(BACK_SECONDS)
        name, self.attempts[message.name] = message.name, message.attempt
        client = Client(self.keys.endpoint(name, "127.0.0.1", self.port), name, message.attempt, self.handler(name))
        await client.connect(60)
        self.clients[name] = client
        await client.request(READY, timeout=60, what="ready")
        self.returns += 1


async def simulate(run_dir: Path, options: argparse.Namespace) -> list[str]:
    """Run, print what was measured, and return what is wrong."""
    keys = RunKeys.make(["launcher", "policy", *(f"rollout-{index}" for index in range(options.replicas))])
    boot = make_boot(run_dir, keys, options.replicas, options.in_flight // 2, 1_000_000)
    config = dict(boot.config)
    config["algorithm"] = {**config["algorithm"], "group_size": SAMPLES}
    config["rollout"] = {**config["rollout"], "restarts": 1_000_000}
    config["checkpoint"] = {**config["checkpoint"], "every": None}
    child, port = start_controller(structs.replace(boot, config=config), trajectories=False)
    peers = DyingPeers(keys, options, port)
    KEPT.append(peers)
    peers.controller = psutil.Process(child.pid)
    await peers.connect()
    began, cpu, memory = time.monotonic(), peers.cpu_seconds(), [0.0]
    tasks = [asyncio.create_task(work) for work in (peers.finish_due(), peers.die_at_random())]
    print(
        f"{'seconds':>8} {'steps':>6} {'trained':>10} {'in flight':>10} {'deaths':>7} {'CPU':>6} {'MiB':>7}", flush=True
    )
    while not peers.ended.is_set() and time.monotonic() - began < options.minutes * 60:
        last, before = time.monotonic(), peers.cpu_seconds()
        await asyncio.sleep(10)
        share = (peers.cpu_seconds() - before) / (time.monotonic() - last)
        memory.append(peers.controller.memory_info().rss / 2**20)
        print(
            f"{time.monotonic() - began:>9.0f} {peers.steps_done:>9} {len(peers.trained):>9,} "
            f"{peers.in_flight:>9,} {peers.deaths:>9} {share:>9.0%} {memory[-1]:>9.0f}",
            flush=True,
        )
    used, seconds = peers.cpu_seconds() - cpu, time.monotonic() - began
    tasks[1].cancel()
    await peers.clients["launcher"].notify(Drain("the time is over"))
    await asyncio.wait_for(peers.ended.wait(), 120 + 4 * options.seconds)
    tasks[0].cancel()
    child.wait(60)
    print(
        f"{options.replicas:,} replicas, at most {peers.most_in_flight:,} prompts in flight, {peers.deaths} deaths "
        f"with {peers.lost_leases:,} prompts, {len(peers.trained) / seconds:,.0f} groups trained a second; "
        f"controller: {used / seconds:.0%} of a core, {max(memory):.0f} MiB at most"
    )
    return problems(peers, run_dir)


def problems(peers: DyingPeers, run_dir: Path) -> list[str]:
    found = [peers.error] if peers.error else []
    if twice := +peers.twice:
        found.append(f"{len(twice)} groups were trained twice")
    if peers.summary.get("groups/lost") != 0:
        found.append(f"groups/lost = {peers.summary.get('groups/lost')}")
    with sqlite3.connect(run_dir / "ledger.sqlite") as ledger:
        recorded = dict(ledger.execute("SELECT group_id, step FROM groups WHERE state = 'trained'").fetchall())
        (ids,) = ledger.execute("SELECT coalesce(max(group_id), -1) + 1 - count(*) FROM groups").fetchone()
    if recorded != peers.trained:
        found.append(f"the ledger has {len(recorded)} trained groups, and the policy trained {len(peers.trained)}")
    if ids:
        found.append(f"{ids} group ids are missing in the ledger")
    if not peers.trained:
        found.append("nothing was trained: give it more time")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=100_000, help="prompts that are sampled at the same time")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--deaths", type=float, default=0.01, help="share of the replicas that dies each minute")
    parser.add_argument("--seconds", type=float, default=60.0, help="mean time that a prompt takes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rlx-scale-") as folder:
        found = asyncio.run(simulate(Path(folder), options))
    print("\n".join(found) or "nothing lost, nothing trained twice", flush=True)
    sys.stdout.flush()
    os._exit(1 if found else 0)  # a thousand clients hold sockets that needn't be closed


if __name__ == "__main__":
    main()
