"""Rewards that behave in every way that a user's might, and pools of them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from rlx.boot import Boot, Endpoint
from rlx.config.schema import Config
from rlx.plugins.catalog import discover
from rlx.plugins.resolve import resolve
from rlx.rewards.pool import RewardPool

REWARDS = """
import os, sys, time
import rlx

def length(to_be_evaluated, reference=None, *, scale=1.0):
    return len(to_be_evaluated) * scale

def steerable(to_be_evaluated, reference=None, *args, **kwargs):
    "Follows the instruction in the completion."
    if to_be_evaluated == "hang":
        time.sleep(60)
    if to_be_evaluated == "deaf":
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True: pass
    if to_be_evaluated == "die":
        os._exit(3)
    if to_be_evaluated == "segfault":
        os.kill(os.getpid(), 11)
    if to_be_evaluated == "sys.exit":
        sys.exit(0)
    if to_be_evaluated == "raise":
        raise KeyError("no such key")
    if to_be_evaluated == "nan":
        return float("nan")
    if to_be_evaluated == "garble":
        for fd in range(3, 20):
            try:
                os.write(fd, b"\\0\\0\\0\\1?")
            except OSError:
                pass
    if to_be_evaluated == "print":
        print("noise from a reward")
        sys.__stdout__.write("more")
        os.write(1, b"raw noise")
        return float(len(sys.stdin.read()))
    if to_be_evaluated.startswith("sleep"):
        time.sleep(float(to_be_evaluated[5:]))
    return 1.0

async def slow_async(to_be_evaluated, reference=None, *, prompt):
    import asyncio
    await asyncio.sleep(0.01)
    return 0.5, {"prompt_length": len(prompt)}

def pid(to_be_evaluated, reference=None):
    return float(os.getpid())

def imported(to_be_evaluated, reference=None, **kwargs):
    return float("torch" in sys.modules or "transformers" in sys.modules)

def sees(to_be_evaluated, reference=None, *, config, token_ids, finish_reason, example, **kwargs):
    assert config.model.path == "nowhere", config
    assert token_ids == [1, 2] and finish_reason == "length" and example == {"prompt": "q"}, example
    assert reference == {"gold": [1, 2]}, reference
    assert kwargs["prompt"] == "q"
    return 1

def tokens(to_be_evaluated, reference=None, **kwargs):
    "Uses the tokenizer and the packer from its **kwargs."
    ids = kwargs["tokenizer"].encode(to_be_evaluated)
    assert kwargs["data_packer"].get_rollout_input(to_be_evaluated) == ids
    assert kwargs["tokenizer"](to_be_evaluated).input_ids == ids
    return float(len(ids))

def named_tokenizer(to_be_evaluated, reference=None, *, tokenizer, data_packer):
    return float(type(tokenizer).__name__ != "Lazy" and type(data_packer).__name__ == "DecoderOnlyLLMDataPacker")

def waits_for_file(to_be_evaluated, reference=None):
    "Returns once the file that the completion names exists, and at once if the completion is not a path."
    while to_be_evaluated.startswith("/") and not os.path.exists(to_be_evaluated):
        time.sleep(0.01)
    return 1.0

@rlx.group_reward
def place(to_be_evaluated, reference=None, *, unscored=()):
    return [None if i in unscored else float(i) for i, _ in enumerate(to_be_evaluated)]

@rlx.group_reward
def sees_group(to_be_evaluated, reference=None, *, prompt, example, token_ids, finish_reason, **kwargs):
    assert to_be_evaluated == ["a", "b"] and reference == "gold", (to_be_evaluated, reference)
    assert prompt == "q" and example == {"prompt": "q"}
    assert token_ids == [[1], [2, 3]] and finish_reason == ["stop", "length"]
    return [1, 2], [{"first": 1}, {}]

@rlx.group_reward
async def together(to_be_evaluated, reference=None):
    "Follows the instruction in the first completion."
    import asyncio
    await asyncio.sleep(0)
    first = to_be_evaluated[0]
    if first == "hang":
        time.sleep(60)
    if first == "die":
        os._exit(3)
    if first == "raise":
        raise KeyError("no such key")
    return [1.0] * (1 if first == "too few" else len(to_be_evaluated))

class Counting:
    def __init__(self, start=0): self.n = start
    def __call__(self, to_be_evaluated, reference=None):
        self.n += 1
        return self.n

def grandchild(to_be_evaluated, reference=None):
    import subprocess
    child = subprocess.Popen(["sleep", "300"])
    with open(to_be_evaluated, "w") as f: f.write(str(child.pid))
    time.sleep(60)

not_a_reward = 3
"""


@pytest.fixture
def boot(tmp_path: Path):
    """`boot({"name": "length"}, {...}, workers=2)`: boot data of a run with these rewards of r.py, as in `[[rewards]]`.

    `text` replaces the source of r.py.
    """
    (tmp_path / "r.py").write_text(dedent(REWARDS))

    def make(
        *rewards: dict,
        workers: int = 1,
        eval_rewards: list[dict] | None = None,
        filter_rewards: list[dict] | None = None,
        text: str | None = None,
        model: str = "nowhere",
    ) -> Boot:
        if text is not None:
            (tmp_path / "r.py").write_text(dedent(text))
        named, evals, filters = (
            [{**reward, "name": f"./r.py:{reward['name']}"} for reward in listed]
            for listed in (rewards, eval_rewards or [], filter_rewards or [])
        )
        config = Config.model_validate(
            {
                "model": {"path": model},
                "dataset": {"name": "none"},
                "rewards": named,
                "filter_rewards": filters,
                "rollout": {"reward_workers": workers},
                **({"eval": {"dataset": {"name": "none"}, "rewards": evals}} if evals else {}),
            }
        )
        catalog = discover()
        names = dict.fromkeys(reward["name"] for reward in [*named, *evals, *filters])
        records = [resolve("rewards", name, catalog, tmp_path) for name in names]
        records.append(resolve("packers", "decoder_only_llm", catalog, tmp_path))
        return Boot(
            kind="rollout",
            name="rollout-0",
            index=0,
            attempt=0,
            run_dir=str(tmp_path),
            base_dir=str(tmp_path),
            config=config.model_dump(by_alias=True, mode="json"),
            plugins=records,
            rollouts=True,
            endpoint=Endpoint("127.0.0.1", 1, "a", "b", "the secret key"),
            client_keys={"launcher": "the secret key"},
        )

    return make


@pytest.fixture
def pool(boot):
    """`async with pool({"name": "length"}) as p`: a running pool with these rewards."""
    return lambda *rewards, **options: RewardPool(boot(*rewards, **options))
