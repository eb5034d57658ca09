"""Two kinds of policy: a single rank in the test's own process, and the real processes (`python -m rlx.proc policy`: a
torch elastic agent with its ranks) with the test as their controller.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from rlx.boot import Boot, encode_boot, frame_blob
from rlx.config.schema import Config
from rlx.config.sections.policy import PolicyConfig
from rlx.episodes import Episode, Reward, encode_episodes, single_turn
from rlx.platform import PLATFORMS
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.policy.build import build_policy
from rlx.policy.parallel.mesh import join_ranks
from rlx.policy.weights.hf_folder import load_hf_config
from rlx.testing.models import make_char_model
from rlx.transport.keys import RunKeys
from rlx.transport.messages import CheckpointWritten, Failed, Message, Ok, PolicyReady, Stop, TrainStep
from rlx.transport.server import Server
from rlx_models.hf import plugin

READY_SECONDS = 300.0
"""Long, since a busy machine may take minutes to import torch in every rank."""
SHAPE = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96}


@pytest.fixture(scope="module", autouse=True)
def _offline():
    """Run a module offline with one torch thread; then restore the environment and the number of threads."""
    before, threads = dict(os.environ), torch.get_num_threads()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def tied(tmp_path_factory):
    return make_char_model(tmp_path_factory.mktemp("tied"), **SHAPE)


@pytest.fixture(scope="session")
def untied(tmp_path_factory):
    """A model with an untied head, and with random biases: initialised ones would be zero."""
    folder = tmp_path_factory.mktemp("untied")
    make_char_model(folder, tie_word_embeddings=False, attention_bias=True, **SHAPE)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor.normal_(std=0.05, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def moe(tmp_path_factory):
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    folder = tmp_path_factory.mktemp("moe")
    config = Qwen3MoeConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_experts=12,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def world():
    """The ranks of a policy: this process only."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    world = join_ranks(PLATFORMS["cpu"], PolicyConfig().parallel)
    yield world
    world.close()
    assert not dist.is_initialized()


@pytest.fixture
def build(world):
    """`build(folder, **policy)`: the policy with the model of that folder, on one rank and in float32."""

    def make(folder: Path, **policy):
        config = PolicyConfig.model_validate({"dtype": "float32", **policy})
        model = Config.model_validate({"model": {"path": str(folder)}, "dataset": {"name": "none"}}).model
        return build_policy(plugin, load_hf_config(model, folder), folder, world, config, 1.0)

    return make


@pytest.fixture
def sequences():
    draw = random.Random(0)
    return [[draw.randrange(3, 80) for _ in range(draw.randrange(2, 30))] for _ in range(7)]


@pytest.fixture
def groups() -> Callable[[int], list[list[Episode]]]:
    """`groups(seed)`: three groups of four completions, with rewards and sampler log-probabilities."""

    def make(seed: int) -> list[list[Episode]]:
        draw = random.Random(seed)
        groups = []
        for group in range(3):
            prompt = [draw.randrange(3, 80) for _ in range(6)]
            episodes = []
            for sample in range(4):
                tokens = [draw.randrange(3, 80) for _ in range(draw.randrange(1, 9))]
                trajectory = single_turn(prompt, tokens, logprobs=[draw.uniform(-5.5, -4) for _ in tokens])
                rewards = [Reward("x", draw.random())]
                episodes.append(Episode(group, sample, group, [trajectory], rewards=rewards))
            groups.append(episodes)
        return groups

    return make


class Controller:
    """Sends a policy messages, and receives its messages, as the controller does."""

    def __init__(self, server: Server, process: asyncio.subprocess.Process, run_dir: Path) -> None:
        self.server = server
        self.process = process
        self.run_dir = run_dir
        self.ready: asyncio.Future[PolicyReady] = asyncio.get_running_loop().create_future()
        self.failed: asyncio.Future[Failed] = asyncio.get_running_loop().create_future()
        self.written: asyncio.Queue[CheckpointWritten] = asyncio.Queue()

    async def handle(self, peer: str, message: Message) -> Message | None:
        assert peer == "policy"
        if isinstance(message, PolicyReady):
            self.ready.set_result(message)
            return Ok()
        if isinstance(message, CheckpointWritten):
            await self.written.put(message)
        if isinstance(message, Failed) and not self.failed.done():
            self.failed.set_result(message)
        return None

    async def ask(self, message: Message, timeout: float = 60) -> Message:
        return await self.server.request("policy", message, timeout=timeout, what=type(message).__name__)

    async def train(self, step: int, groups: list[list[Episode]]) -> Message:
        return await self.ask(TrainStep(step, [encode_episodes(group) for group in groups]))

    async def stop(self) -> int:
        await self.server.notify("policy", Stop("test"))
        return await asyncio.wait_for(self.process.wait(), 30)

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted((self.run_dir / "logs").rglob("*.log")))


@pytest.fixture
def policy(tmp_path_factory):
    """`async with policy(folder, ranks=2, **sections) as controller`: a policy that is ready, or has exited.

    `sections` are sections of the config.
    """

    @asynccontextmanager
    async def start(
        folder: Path, *, ranks: int = 2, rollouts: bool = True, resume: Path | None = None, **tables: dict
    ) -> AsyncIterator[Controller]:
        run_dir = tmp_path_factory.mktemp("run")
        (run_dir / "logs").mkdir()
        config = _config(folder, ranks, rollouts, tables)
        keys = RunKeys.make(["policy"])
        controller: Controller | None = None

        async def handle(peer: str, message: Message) -> Message | None:
            assert controller is not None
            return await controller.handle(peer, message)

        server = Server(keys.endpoint("controller", "127.0.0.1", 0), keys.client_keys, handle)
        port = await server.start()
        boot = _boot(run_dir, config, rollouts, keys.endpoint("policy", "127.0.0.1", port), resume)
        with (run_dir / "logs" / "policy.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "rlx.proc", "policy", stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )
        controller = Controller(server, process, run_dir)
        assert process.stdin is not None
        process.stdin.write(frame_blob(encode_boot(boot)))
        await process.stdin.drain()
        try:
            await _until_ready(controller)
            yield controller
        finally:
            try:
                if process.returncode is None:
                    process.terminate()
                    await asyncio.wait_for(process.wait(), 30)
            finally:
                if process.returncode is None:
                    process.kill()
                await server.close()

    return start


async def _until_ready(controller: Controller) -> None:
    ended = asyncio.create_task(controller.process.wait())
    await asyncio.wait({ended, controller.ready}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if not controller.ready.done() and not ended.done():
        raise TimeoutError(controller.logs())


def _config(folder: Path, ranks: int, rollouts: bool, tables: dict) -> Config:
    policy = {
        "dtype": "float32",
        "max_tokens_per_microbatch": 64,
        "parallel": {"dp_shard": ranks},
        "optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup_steps": 2, "weight_decay": 0.1},
        **tables.pop("policy", {}),
    }
    plain = {
        "run": {"steps": 10},
        "model": {"path": str(folder)},
        "dataset": {"name": "arithmetic"},
        "algorithm": {"name": "grpo" if rollouts else "sft"},
        "policy": policy,
    }
    return Config.model_validate({**plain, **tables})


def _boot(run_dir: Path, config: Config, rollouts: bool, endpoint, resume: Path | None) -> Boot:
    catalog = discover()
    names = [("models", "hf"), ("algorithms", config.algorithm.name), ("datasets", config.dataset.name)]
    names += [("packers", config.packer.name), *(("hooks", name) for name in config.plugins.names)]
    return Boot(
        kind="policy",
        name="policy",
        index=0,
        attempt=1,
        run_dir=str(run_dir),
        base_dir=str(Path(__file__).parent),
        config=config.model_dump(by_alias=True, mode="json"),
        plugins=[resolve(kind, name, catalog, Path(__file__).parent) for kind, name in names],
        rollouts=rollouts,
        endpoint=endpoint,
        resume_from=str(resume) if resume is not None else None,
    )
