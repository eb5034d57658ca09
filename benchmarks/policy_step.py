"""Compare a step of the policy with a bare PyTorch loop: same model, packed rows, FSDP and losses.

The bare loop has its micro-batches ready in memory and only runs forward, loss, backward, clipping and AdamW. rlx adds
decoding the groups' episodes, advantages, planning the micro-batches, and metrics summed over ranks. Steps of
both alternate in one process per rank; the ratio is that of the medians. On a busy machine, look at the ratio of CPU
seconds.

    python benchmarks/policy_step.py [--model DIR] [--ranks 2] [--steps 9] [--groups 32] [--samples 8] [--tokens 64]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

Options = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a Hugging Face folder; default: the quickstart's character-level Qwen3")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--dtype", default="float32")
    options = vars(parser.parse_args())
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    with tempfile.TemporaryDirectory() as folder:
        options["model"] = options["model"] or str(_quickstart_model(Path(folder)))
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=options["ranks"],
            run_id="bench",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        )
        elastic_launch(config, rank_main)(options)


def _quickstart_model(folder: Path) -> Path:
    from rlx.testing.models import make_char_model

    return make_char_model(folder)


def _episodes(options: Options, seed: int) -> list[bytes]:
    from rlx.episodes import Episode, Reward, encode_episodes, single_turn

    draw = random.Random(seed)
    payloads = []
    for group in range(options["groups"]):
        prompt = [draw.randrange(3, 80) for _ in range(16)]
        episodes = []
        for sample in range(options["samples"]):
            tokens = [
                draw.randrange(3, 80) for _ in range(draw.randrange(options["tokens"] // 2, options["tokens"] + 1))
            ]
            trajectory = single_turn(prompt, tokens, logprobs=[-4.8] * len(tokens))
            episodes.append(Episode(group, sample, group, [trajectory], rewards=[Reward("x", draw.random())]))
        payloads.append(encode_episodes(episodes))
    return payloads


class Side:
    """The model and optimizer of one side."""

    def __init__(self, options: Options, world: Any) -> None:
        from rlx.config.schema import Config
        from rlx.policy.build import build_policy
        from rlx.policy.train.optimizer import Optimizer
        from rlx.policy.weights.hf_folder import load_hf_config
        from rlx_models.hf import plugin

        folder = Path(options["model"])
        tables = {
            "model": {"path": str(folder)},
            "dataset": {"name": "none"},
            "policy": {"dtype": options["dtype"], "parallel": {"dp_shard": options["ranks"]}},
        }
        self.config = Config.model_validate(tables)
        self.world = world
        hf_config = load_hf_config(self.config.model, folder)
        self.built = build_policy(plugin, hf_config, folder, world, self.config.policy, 1.0)
        parameters = dict(self.built.network.named_parameters())
        self.optimizer = Optimizer(parameters, self.config.policy.optimizer, 1000)


def rlx_step(side: Side, algorithm: Any) -> Callable[[int, list[bytes]], None]:
    from rlx.episodes import decode_episodes
    from rlx.policy.train.trainer import Trainer

    trainer = Trainer(side.world, side.built.model, side.optimizer, algorithm, side.config.policy)
    return lambda _step, payloads: trainer.train([decode_episodes(payload) for payload in payloads]) and None


def bare_step(side: Side, algorithm: Any, prepared: list[Any]) -> Callable[[int, list[bytes]], None]:
    """Return a step of the bare loop. `prepared` has the plan that rlx would make for each step."""
    import torch
    from torch.distributed.tensor import DTensor

    parameters = list(side.built.network.parameters())
    adamw = torch.optim.AdamW(parameters, lr=side.config.policy.optimizer.lr, weight_decay=0.0, foreach=True)

    def step(number: int, _payloads: list[bytes]) -> None:
        plan = prepared[number]
        for micro in plan.micro_batches:
            loss, _ = algorithm.loss(micro.token_batch(side.built.model(micro)), plan.totals)
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        assert isinstance(norm, DTensor)
        adamw.step()
        adamw.zero_grad()

    return step


def rank_main(options: Options) -> None:
    import torch

    from rlx.algorithms.grpo import GRPO
    from rlx.config.sections.policy import ParallelConfig
    from rlx.platform import PLATFORMS
    from rlx.policy.parallel.mesh import join_ranks

    torch.manual_seed(0)
    world = join_ranks(PLATFORMS["cpu"], ParallelConfig(dp_shard=options["ranks"]))
    algorithm, ours, theirs = GRPO(), Side(options, world), Side(options, world)
    steps = [_episodes(options, seed) for seed in range(options["steps"] + 2)]
    plans = [_plan(payloads, ours, algorithm) for payloads in steps]
    sides = {"rlx": rlx_step(ours, algorithm), "bare": bare_step(theirs, algorithm, plans)}
    measured = {name: _Seconds() for name in sides}
    for number, payloads in enumerate(steps):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in order:
            world.barrier()
            measured[name].time(partial(sides[name], number, payloads), keep=number >= 2)
    if world.rank == 0:
        _report(measured, plans, options)
    world.close()


def _plan(payloads: list[bytes], side: Side, algorithm: Any) -> Any:
    from rlx.episodes import decode_episodes
    from rlx.policy.packing.step_plan import plan_step

    groups = [decode_episodes(payload) for payload in payloads]
    return plan_step(
        groups,
        algorithm.advantages(groups),
        ranks=side.world.size,
        rank=side.world.rank,
        max_tokens=side.config.policy.max_tokens_per_microbatch,
        packing=True,
    )


class _Seconds:
    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def time(self, work: Callable[[], None], *, keep: bool) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        if keep:
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)


def _report(measured: dict[str, _Seconds], plans: list[Any], options: Options) -> None:
    tokens = statistics.median(plan.totals.tokens for plan in plans)
    print(f"{options['ranks']} ranks, {options['dtype']}, {tokens:.0f} trained tokens a step, {options['steps']} steps")
    for clock in ("wall", "cpu"):
        ours, bare = (statistics.median(getattr(measured[name], clock)) for name in ("rlx", "bare"))
        print(f"{clock:4s}  rlx {ours:.4f} s  bare {bare:.4f} s  ratio {ours / bare:.3f}")


if __name__ == "__main__":
    main()
