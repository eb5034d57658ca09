"""The same steps give the same losses and weights under every layout of ranks. An engine receives these weights, and a
run continues from a checkpoint of another layout.

docs/parallelism.md has the numbers that `pytest -rP` prints for this file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlx.testing.models import make_char_model

pytestmark = pytest.mark.timeout(440)

RANKS = Path(__file__).with_name("layout_rank.py")
STEPS = 5
DENSE = {
    "dp_shard 2": {"dp_shard": 2},
    "dp_replicate 2 x dp_shard 2": {"dp_replicate": 2, "dp_shard": 2},
    "tp 2": {"tp": 2},
    "tp 2 x dp_shard 2": {"tp": 2, "dp_shard": 2},
    "cp 2": {"cp": 2},
    "cp 2 x tp 2": {"cp": 2, "tp": 2},
}
STAGES = {
    "pp 2": {"pp": 2},
    "pp 2 x dp_shard 2": {"pp": 2, "dp_shard": 2},
    "pp 2 x tp 2": {"pp": 2, "tp": 2},
    "pp 2 x cp 2": {"pp": 2, "cp": 2},
}
"""Layouts for a model with an untied head."""
TIED_STAGES = {
    "pp 2 of a tied model": {"pp": 2},
    "pp 2 x dp_shard 2 of a tied model": {"pp": 2, "dp_shard": 2},
    "pp 2 x tp 2 of a tied model": {"pp": 2, "tp": 2},
}
MANY_STAGES = {"pp 4 of a tied model": {"pp": 4}}
MOE = {
    "ep 2": {"ep": 2},
    "ep 2 x dp_shard 2": {"ep": 2, "dp_shard": 2},
    "ep 2 x tp 2": {"ep": 2, "tp": 2},
    "ep 2 x cp 2": {"ep": 2, "cp": 2},
    "ep 2 x pp 2": {"ep": 2, "pp": 2},
}
PLUGIN = {
    "ep 2 by a plugin": {"ep": 2},
    "cp 2 by a plugin": {"cp": 2},
    "tp 2 by a plugin": {"tp": 2},
    "ep 2 x tp 2 by a plugin": {"ep": 2, "tp": 2},
    "pp 2 by a plugin": {"pp": 2},
    "tp 2 x pp 2 by a plugin": {"tp": 2, "pp": 2},
    "ep 2 x pp 2 by a plugin": {"ep": 2, "pp": 2},
}
TIED_PLUGIN = {"pp 2 of a tied model by a plugin": {"pp": 2}}
BALANCED = {"pp 2 with learning buffers": {"pp": 2}}
"""The buffers learn from the load of experts, in which padding counts: here a step is one row, without padding."""
ONE_ROW = 1024
LAYOUTS = {
    "tied": {**DENSE, **TIED_STAGES},
    "untied": STAGES,
    "long": MANY_STAGES,
    "moe": MOE,
    "deepseek": PLUGIN,
    "deepseek_tied": TIED_PLUGIN,
    "balanced": BALANCED,
}
"""Model -> its layouts. The job that is named after the model trains it on one rank: the reference."""
BY_PLUGIN = ("deepseek", "deepseek_tied", "balanced")
MEMORY = {f"sent from {name} 2": {name: 2} for name in ("dp_shard", "tp", "pp")}
SAME = ("loss", "grad_norm", "entropy", "mismatch/kl", "mismatch/logprob_diff_max", "tokens/trained")
LOAD = ("experts/max_violation", "experts/idle")


def job(name, model, parallel, *, steps=(0, STEPS), load=None, save=False, measure=False, **policy):
    if model == "balanced":
        policy["max_tokens_per_microbatch"] = ONE_ROW
    return {
        "name": name,
        "model": model,
        "model_plugin": "deepseek" if model in BY_PLUGIN else "hf",
        "policy": {"parallel": parallel, **policy},
        "steps": steps,
        "load": load,
        "save": save,
        "measure": measure,
        "balance": model == "balanced",
    }


def jobs_of_size(ranks):
    """Return a job for each of the layouts above that takes `ranks` ranks."""
    return [
        job(name, model, parallel)
        for model, layouts in LAYOUTS.items()
        for name, parallel in layouts.items()
        if prod(parallel.values()) == ranks
    ]


WORLDS = [
    [job(model, model, {}) for model in LAYOUTS],
    [
        *jobs_of_size(2),
        job("padded", "tied", {"dp_shard": 2}, packing=False),
        job("padded tp 2", "tied", {"tp": 2}, packing=False),
        job("recomputed tp 2", "tied", {"tp": 2}, gradient_checkpointing=True),
        job("recomputed pp 2", "tied", {"pp": 2}, gradient_checkpointing=True),
        # transformers' plan of this architecture does not split attention.
        {**job("tp 2 of a plan", "deepseek", {"tp": 2}), "model_plugin": "hf"},
        job("first 2", "tied", {"dp_shard": 2}, steps=(0, 2), save=True),
        job("first pp 2", "untied", {"pp": 2}, steps=(0, 2), save=True),
        job("first tied pp 2", "tied", {"pp": 2}, steps=(0, 2), save=True),
        job("first pp 2 by a plugin", "deepseek", {"pp": 2}, steps=(0, 2), save=True),
        job("first balanced pp 2", "balanced", {"pp": 2}, steps=(0, 2), save=True),
        *(job(name, "deep", parallel, measure=True) for name, parallel in MEMORY.items()),
    ],
    [
        *jobs_of_size(4),
        job("then 4", "tied", {"dp_shard": 4}, steps=(2, 4), load="first 2", save=True),
        job("first tp 2 x 2", "tied", {"tp": 2, "dp_shard": 2}, steps=(0, 2), save=True),
        job("first ep 2 x 2", "moe", {"ep": 2, "dp_shard": 2}, steps=(0, 2), save=True),
    ],
    [
        job("then tp 2", "tied", {"tp": 2}, steps=(4, STEPS), load="then 4"),
        job("then 2", "tied", {"dp_shard": 2}, steps=(2, STEPS), load="first tp 2 x 2"),
        job("then tp 2 of pp 2", "untied", {"tp": 2}, steps=(2, 4), load="first pp 2", save=True),
        job("then pp 2", "untied", {"pp": 2}, steps=(4, STEPS), load="then tp 2 of pp 2"),
        job("then tp 2 of tied pp 2", "tied", {"tp": 2}, steps=(2, 4), load="first tied pp 2", save=True),
        job("then tied pp 2", "tied", {"pp": 2}, steps=(4, STEPS), load="then tp 2 of tied pp 2"),
        job("then ep 2", "moe", {"ep": 2}, steps=(2, STEPS), load="first ep 2 x 2"),
        job("then ep 2 by a plugin", "deepseek", {"ep": 2}, steps=(2, 4), load="first pp 2 by a plugin", save=True),
        job("then pp 2 by a plugin", "deepseek", {"pp": 2}, steps=(4, STEPS), load="then ep 2 by a plugin"),
        job("then balanced pp 2", "balanced", {"pp": 2}, steps=(2, STEPS), load="first balanced pp 2"),
    ],
]
"""The jobs of worlds of 1, 2, 4 and again 2 ranks. A job may load a checkpoint of an earlier world."""


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A model with four layers, one for each of four stages."""
    return make_char_model(tmp_path_factory.mktemp("long"), num_hidden_layers=4, hidden_size=64, intermediate_size=96)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A model with many large layers."""
    shape = {
        "num_hidden_layers": 8,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "head_dim": 96,
        "tie_word_embeddings": False,
    }
    return make_char_model(tmp_path_factory.mktemp("deep"), **shape)


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    """A checkpoint for the model of rlx-plugin-deepseek, which has its own `parallelize`."""
    return make_deepseek(tmp_path_factory.mktemp("deepseek"))


@pytest.fixture(scope="module")
def deepseek_tied(tmp_path_factory):
    return make_deepseek(tmp_path_factory.mktemp("deepseek_tied"), tie_word_embeddings=True)


def make_deepseek(folder, **shape):
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=32,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        n_routed_experts=8,
        num_experts_per_tok=2,
        n_group=4,
        topk_group=2,
        q_lora_rank=None,
        kv_lora_rank=32,
        qk_rope_head_dim=16,
        qk_nope_head_dim=16,
        v_head_dim=16,
        max_position_embeddings=128,
        **shape,
    )
    torch.manual_seed(0)
    DeepseekV3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tied, untied, moe, deepseek, deepseek_tied, long, deep):
    """The folder in which every job has written its results, into a folder with its name."""
    folder = tmp_path_factory.mktemp("layouts")
    models = {"tied": tied, "untied": untied, "moe": moe, "long": long, "deep": deep}
    models |= {"deepseek": deepseek, "deepseek_tied": deepseek_tied, "balanced": deepseek}
    worlds = [[_with_paths(job, folder, models) for job in jobs] for jobs in WORLDS]
    (folder / "worlds.json").write_text(json.dumps(worlds))
    process = subprocess.Popen(
        [sys.executable, RANKS, folder / "worlds.json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = process.communicate(timeout=400)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # the ranks as well
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return folder


def _with_paths(job, folder, models):
    """Make the job's folder, and return the job with paths instead of the names of its model and checkpoint."""
    out, model = folder / job["name"], models[job["model"]]
    out.mkdir()
    (out / "source.safetensors").symlink_to(model / "model.safetensors")
    load = job["load"] and str(folder / job["load"] / "checkpoint")
    return {**job, "model": str(model), "load": load, "out": str(out)}


def metrics(folder, name):
    return json.loads((folder / name / "metrics.json").read_text())["metrics"]


def scores(folder, name):
    rows = json.loads((folder / name / "metrics.json").read_text())["scores"]
    return torch.tensor([score for row in rows for score in row])


def tensors(folder, name, what="weights"):
    return load_file(folder / name / f"{what}.safetensors")


def relative(seen, expected):
    return float((seen - expected).norm() / expected.norm())


def assert_same(folder, name, reference, first=0):
    """Assert that two jobs agree, and print the largest relative differences of losses, gradient norms and weights.

    `first`: the first step of the job, if it continued from a checkpoint.
    """
    steps, expected = metrics(folder, name), metrics(folder, reference)[first:]
    seen_weights, expected_weights = tensors(folder, name), tensors(folder, reference)
    assert seen_weights.keys() == expected_weights.keys()
    off = {key: relative(seen_weights[key], expected_weights[key]) for key in seen_weights}
    for key in ("loss", "grad_norm"):
        print(f"{key} {max(abs(a[key] / b[key] - 1) for a, b in zip(steps, expected, strict=True)):.0e}", end=", ")
    print(f"weights {max(off.values()):.0e}: {name}")
    for seen, wanted in zip(steps, expected, strict=True):
        for key in (*SAME, *(name for name in LOAD if name in wanted)):
            assert seen[key] == pytest.approx(wanted[key], rel=1e-5), key
    assert {key: difference for key, difference in off.items() if difference > 1e-5} == {}
    torch.testing.assert_close(scores(folder, name), scores(folder, reference), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        *((name, model) for model in LAYOUTS for name in LAYOUTS[model]),
        ("padded", "tied"),
        ("padded tp 2", "tied"),
        ("recomputed tp 2", "tied"),
        ("recomputed pp 2", "tied"),
        ("tp 2 of a plan", "deepseek"),
    ],
)
def test_layouts_give_the_same_losses_and_weights(finished, name, reference):
    assert_same(finished, name, reference)


def test_tp_ranks_share_the_positions_outside_of_split_blocks(finished):
    def positions(name, *parts):
        seen = json.loads((finished / name / "metrics.json").read_text())["positions"]
        return {seen[f"model.{part}"] for part in parts}

    outside = ("layers.1.input_layernorm", "layers.1.post_attention_layernorm", "norm")
    inside = ("layers.1.self_attn.q_proj", "layers.1.mlp.gate_proj", "layers.1.mlp.down_proj")
    for name in ("tp 2", "padded tp 2"):
        (own,), (whole,) = positions(name, *outside), positions(name, *inside)
        assert own == whole / 2
    assert len(positions("tied", *outside, *inside)) == 1


def even_layouts():
    """Yield the layouts whose ranks hold equally many parameters. With stages, layers and both ends must be equal."""
    for model, layouts in LAYOUTS.items():
        for name, parallel in layouts.items():
            if "pp" not in parallel or model in ("untied", "moe"):
                yield name, parallel


@pytest.mark.parametrize(("name", "parallel"), list(even_layouts()))
def test_a_rank_holds_its_share_of_all_parameters(finished, name, parallel):
    held, whole = json.loads((finished / name / "metrics.json").read_text())["numbers"]
    shares = prod(parallel.values()) / parallel.get("dp_replicate", 1)
    # Not every dimension is a multiple of four, and the last stage has one more norm.
    assert held == pytest.approx(whole / shares, rel=0.02)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_steps_move_every_weight_far_more_than_layouts_differ(finished, name):
    before, after = tensors(finished, name, "source"), tensors(finished, name)
    # A key bias adds nearly the same to all attention scores of a query: its gradient is close to zero.
    assert min(relative(after[key], before[key]) for key in after if not key.endswith("k_proj.bias")) > 1e-3
    assert min(step["grad_norm"] for step in metrics(finished, name)) > 0.05


def sent_dtype(name):
    """Return the dtype in which a tensor is sent: buffers keep their own."""
    return torch.float32 if name.endswith("correction_bias") else torch.bfloat16


@pytest.mark.parametrize("name", [name for layouts in LAYOUTS.values() for name in layouts])
def test_an_engine_receives_the_weights_in_the_wire_dtype_bit_for_bit(finished, name):
    for whole, what in ((tensors(finished, name, "source"), "before"), (tensors(finished, name), "after")):
        sent = tensors(finished, name, what)
        assert sent.keys() == whole.keys()
        assert all(torch.equal(sent[key], whole[key].to(sent_dtype(key))) for key in whole)


@pytest.mark.parametrize("name", MEMORY)
def test_sending_takes_the_memory_of_at_most_two_layers_and_a_bucket(finished, name):
    for rank in range(2):
        extra, buckets = json.loads((finished / name / f"peak_{rank}.json").read_text())
        layer = max(buckets[1:])
        print(f"rank {rank}: {extra / layer:.2f} layers of {layer / 1e6:.1f} MB, {name}")
        assert extra <= 2 * layer + max(buckets) < sum(buckets) / 2


@pytest.mark.parametrize(
    ("name", "reference", "first"),
    [
        ("then tp 2", "tied", 4),
        ("then 2", "tied", 2),
        ("then pp 2", "untied", 4),
        ("then tied pp 2", "tied", 4),
        ("then ep 2", "moe", 2),
        ("then pp 2 by a plugin", "deepseek", 4),
        ("then balanced pp 2", "balanced", 2),
    ],
)
def test_a_run_continues_from_a_checkpoint_of_another_layout(finished, name, reference, first):
    """The first case continues from 2 ranks on 4, and then with tp 2."""
    assert_same(finished, name, reference, first)
