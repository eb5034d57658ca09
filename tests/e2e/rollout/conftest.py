"""Real engines. Tests share one of the tiny model, since its start takes longer than all of them together."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager

import pytest
import pytest_asyncio
import torch

from rlx.config.schema import Config
from rlx.rollout.engine_arguments import engine_arguments, engine_environment
from rlx.sync import transfer_group
from rlx.sync.buckets import manifest_of, send_buckets, total_bytes
from rlx.testing.models import make_char_model, save_char_tokenizer
from rlx.transport.messages import InitTransfer, ReceiveWeights

TIMEOUT = 60.0


def _config(model, **rollout):
    rollout = {"dtype": "float32", "vllm": {"max_model_len": 256}} | rollout
    return Config.model_validate({"model": {"path": str(model)}, "dataset": {"name": "none"}, "rollout": rollout})


@contextmanager
def _engine_environ():
    """Set the environment of a replica's process in this one; restore it at the end."""
    before = dict(os.environ)
    os.environ.update(engine_environment(_config("none"), 0))
    os.environ.update({"VLLM_LOGGING_LEVEL": "WARNING", "HF_HUB_OFFLINE": "1"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="module", autouse=True)
def _environment_of_tests():
    """Let vLLM read the environment of a replica during the tests of this folder, and only then."""
    with _engine_environ():
        yield


@pytest.fixture(scope="session")
def start_engine():
    """`async with start_engine(model_folder, **rollout_config) as engine`."""

    @asynccontextmanager
    async def start(model, name="rollout-0", **rollout):
        from rlx.rollout.engine import Engine

        with _engine_environ():  # the engine of the session is started before the fixture of a module
            engine = await Engine.start(engine_arguments(_config(model, **rollout), 0), name)
        try:
            yield engine
        finally:
            engine.close()

    return start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(start_engine, tiny_model):
    """An engine with the tiny model. Tests change its weights, and send the ones that they need."""
    async with start_engine(tiny_model) as engine:
        yield engine


@pytest.fixture(scope="session")
def generate():
    """`await generate(engine, prompt, samples=..., max_tokens=..., temperature=...)`: completions of one prompt."""

    async def submit_and_collect(engine, prompt, **parameters):
        return await engine.collect(await engine.submit(prompt, **parameters))

    return submit_and_collect


class Policy:
    """A plain torch stand-in for the policy: a state dict, and rank 0 of the transfer group."""

    def __init__(self, engine):
        self.engine = engine
        self.group = None
        self.store = None
        self.buckets = []

    async def open(self, buckets):
        self.buckets = buckets
        self.store, port = transfer_group.open_store("127.0.0.1", 1 + self.engine.workers, TIMEOUT)
        world = 1 + self.engine.workers
        join = asyncio.to_thread(transfer_group.join, "127.0.0.1", port, 0, world, "gloo", TIMEOUT)
        entered = self.engine.init_transfer(InitTransfer("127.0.0.1", port, world, 1, "gloo", TIMEOUT, buckets))
        self.group, _ = await asyncio.gather(join, entered)

    async def break_off(self, version, weights):
        """Send half of `weights` and leave the group, as a policy does whose transfer broke at another engine."""
        half = list(weights.items())[: len(weights) // 2]
        receiving = asyncio.create_task(self.engine.receive(ReceiveWeights(version, TIMEOUT)))
        sending = asyncio.to_thread(send_buckets, self.group, version, self.buckets, [[t for _, t in half]])
        sent, _ = await asyncio.gather(sending, asyncio.sleep(0.2), return_exceptions=True)
        assert "ended after 1 of 2 buckets" in str(sent)
        self.group.close()
        self.buckets = []
        await receiving

    async def send(self, version, weights):
        """Send the engine `weights`, checkpoint name -> tensor, in two buckets, which may split a layer.

        Opens a transfer group first if the names aren't those of the last call.
        """
        pairs = list(weights.items())
        halves = [pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]]
        buckets = manifest_of(halves)
        tensors = [[tensor for _, tensor in half] for half in halves]
        if buckets != self.buckets:
            await self.open(buckets)
        sending = asyncio.to_thread(send_buckets, self.group, version, buckets, tensors)
        receiving = self.engine.receive(ReceiveWeights(version, TIMEOUT))
        sent, received = await asyncio.gather(sending, receiving, return_exceptions=True)
        if isinstance(received, BaseException):
            raise received
        assert sent is None
        assert received.bytes == total_bytes(buckets)
        return received


@pytest.fixture(scope="session")
def policy_of():
    """`policy_of(engine)`: a stand-in policy for another engine."""
    return Policy


@pytest.fixture(scope="session")
def policy(engine, policy_of):
    """The stand-in policy of the shared engine."""
    return policy_of(engine)


@pytest.fixture(scope="session")
def checkpoint():
    """`checkpoint(folder, noise, seed)`: the tensors of a model folder, each with relative noise added."""
    from safetensors.torch import load_file

    def make(folder, noise=0.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        tensors = load_file(folder / "model.safetensors")
        return {
            name: tensor + noise * tensor.std().nan_to_num(1.0) * torch.randn(tensor.shape, generator=generator)
            for name, tensor in tensors.items()
        }

    return make


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """`reference(folder, weights, sequences)`: transformers' float32 logprobs of all tokens but the first of each."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    def score(folder, weights, sequences, temperature=1.0):
        copy = tmp_path_factory.mktemp("reference")
        for name in ("config.json", "generation_config.json"):
            (copy / name).write_bytes((folder / name).read_bytes())
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        model = AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float32).eval()
        rows = []
        with torch.no_grad():
            for sequence in sequences:
                logits = model(input_ids=torch.tensor([sequence])).logits[0, :-1] / temperature
                picked = logits.log_softmax(-1).gather(-1, torch.tensor(sequence[1:]).unsqueeze(-1))
                rows.append(picked.squeeze(-1).tolist())
        return rows

    return score


@pytest.fixture(scope="session")
def untied_model(tmp_path_factory):
    return make_char_model(tmp_path_factory.mktemp("models") / "untied", seed=2, tie_word_embeddings=False)


@pytest.fixture(scope="session")
def moe_model(tmp_path_factory):
    """Qwen3-MoE, whose experts are fused in transformers and separate in a checkpoint."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    folder = tmp_path_factory.mktemp("models") / "moe"
    folder.mkdir()
    eos = save_char_tokenizer(folder)
    torch.manual_seed(3)
    shape = {"hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
    config = Qwen3MoeConfig(
        vocab_size=128, max_position_embeddings=512, eos_token_id=eos, pad_token_id=0, bos_token_id=None,
        tie_word_embeddings=False, **shape, **heads, **experts,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder
