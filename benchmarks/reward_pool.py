"""Measure the reward pool: overhead of a call, and results of 10,000 calls of which 1 % hang and 1 % crash.

Prints microseconds per call (one in flight, and many), the difference to the same function called in-process, calls per
second with two workers, and a count of every outcome. Exits with 1 if a call is lost, scored 0, or answered wrongly.

    python benchmarks/reward_pool.py [--calls 10000] [--workers 2] [--timeout 0.1]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rlx.boot import Boot, Endpoint
from rlx.config.schema import Config
from rlx.errors import RewardError
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.rewards.pool import RewardPool
from rlx.rewards.scoring import RewardInput, Scores

REWARD = """
import os, time

def reward(to_be_evaluated, reference=None):
    if to_be_evaluated.startswith("hang"):
        time.sleep(3600)
    if to_be_evaluated.startswith("crash"):
        os._exit(9)
    return float(len(to_be_evaluated))
"""
TEXT = "x" * 1000


def boot_for(folder: Path, workers: int, timeout: float) -> Boot:
    (folder / "r.py").write_text(REWARD)
    name = "./r.py:reward"
    config = Config.model_validate(
        {
            "model": {"path": "none"},
            "dataset": {"name": "none"},
            "rewards": [{"name": name, "timeout_seconds": timeout}],
            "rollout": {"reward_workers": workers},
        }
    )
    return Boot(
        kind="rollout",
        name="rollout-0",
        index=0,
        attempt=0,
        run_dir=str(folder),
        base_dir=str(folder),
        config=config.model_dump(by_alias=True, mode="json"),
        plugins=[resolve("rewards", name, discover(), folder)],
        rollouts=True,
        endpoint=Endpoint("", 0, "", "", ""),
    )


async def one_at_a_time(pool: RewardPool, count: int) -> float:
    """Return the median microseconds of a call while no other is in flight."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await pool.score([RewardInput(TEXT)])
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


async def all_at_once(pool: RewardPool, count: int) -> float:
    """Return calls per second when all are queued at once."""
    began = time.perf_counter()
    await asyncio.gather(*(pool.score([RewardInput(TEXT)]) for _ in range(count)))
    return count / (time.perf_counter() - began)


def in_process(count: int) -> float:
    """Return microseconds per direct call of the same function."""
    namespace: dict[str, object] = {}
    exec(REWARD, namespace)
    reward = namespace["reward"]
    began = time.perf_counter()
    for _ in range(count):
        reward(TEXT)
    return (time.perf_counter() - began) / count * 1e6


def mixed_texts(calls: int) -> list[str]:
    kinds = {37: "hang", 71: "crash"}
    return [f"{kinds.get(i % 100, 'fine')} {'y' * (i % 7)}" for i in range(calls)]


def outcome(text: str, answer: list[Scores] | BaseException) -> str:
    if isinstance(answer, list):
        value = answer[0].rewards[0].value
        return "scored" if value == len(text) and text.startswith("fine") else "WRONG"
    if isinstance(answer, RewardError) and repr(text) in str(answer):
        return "timed out" if "took more than" in str(answer) else "crashed"
    return f"WRONG {answer!r}"


async def mixed(boot: Boot, calls: int) -> bool:
    texts = mixed_texts(calls)
    async with RewardPool(boot) as pool:
        began = time.perf_counter()
        answers = await asyncio.gather(*(pool.score([RewardInput(t)]) for t in texts), return_exceptions=True)
        seconds = time.perf_counter() - began
    counts = Counter(outcome(text, answer) for text, answer in zip(texts, answers, strict=True))
    print(f"{calls} calls, 1 % hanging, 1 % crashing: {seconds:.1f} s, {calls / seconds:,.0f} calls/s")
    print("  " + ", ".join(f"{name}: {count}" for name, count in sorted(counts.items())))
    hanging, crashing = (sum(text.startswith(kind) for text in texts) for kind in ("hang", "crash"))
    return counts == Counter({"scored": calls - hanging - crashing, "timed out": hanging, "crashed": crashing})


async def run(calls: int, workers: int, timeout: float) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        boot = boot_for(Path(folder), workers, timeout)
        began = time.perf_counter()
        async with RewardPool(boot) as pool:
            print(f"start of {workers} workers: {time.perf_counter() - began:.2f} s")
            await all_at_once(pool, 200)  # warm
            alone = await one_at_a_time(pool, 2000)
            rates = [await all_at_once(pool, calls // 5) for _ in range(5)]
        direct = in_process(200_000)
        print(f"one call in flight: {alone:.0f} us (in-process: {direct:.2f} us; difference {alone - direct:.0f} us)")
        rate = statistics.median(rates)
        print(f"all queued, {workers} workers: {rate:,.0f} calls/s, {1e6 / rate:.0f} us a call (median of 5)")
        return await mixed(boot, calls)


def main() -> int:
    parser = argparse.ArgumentParser(description="Cost and robustness of the reward pool.")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=0.1)
    options = parser.parse_args()
    return 0 if asyncio.run(run(options.calls, options.workers, options.timeout)) else 1


if __name__ == "__main__":
    sys.exit(main())
